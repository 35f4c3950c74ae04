//! A line that is typed on a terminal in raw mode.
//!
//! Only what can be seen counts. What terminals send by themselves, as answers to what a program wrote before, are escape
//! sequences (ECMA-48), and none of them becomes a part of an answer.

/// What a byte came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet; this is to be shown.
    Echo(&'static str),
    /// The same, with this character.
    Show(char),
    /// A whole line.
    Line(String),
    /// A key that is not for the question: it goes to the run, and the question is left.
    Leave(u8),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// Behind ESC.
    Escape,
    /// In a control sequence, which a letter ends.
    Sequence,
    /// In a string of control, which ST or BEL ends.
    Control,
}

/// The line so far.
#[derive(Debug, Default)]
pub(super) struct Editor {
    line: String,
    state: State,
}

/// Longest line, in characters: no answer is longer.
const LONGEST: usize = 64;

impl Editor {
    /// Takes a byte.
    pub fn take(&mut self, byte: u8) -> Step {
        // The return key ends whatever was there, so that nothing can keep a person from answering.
        if matches!(byte, b'\r' | b'\n') {
            self.state = State::Text;
            return Step::Line(std::mem::take(&mut self.line));
        }
        match (self.state, byte) {
            (_, 0x1b) => self.state = State::Escape,
            (State::Escape, b'[') => self.state = State::Sequence,
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => self.state = State::Control,
            // Of two bytes, as a key with Alt, or of three: SS3 and one more, as a key of the keypad.
            (State::Escape, b'O') => {}
            (State::Escape, _) | (State::Sequence, 0x40..=0x7e) | (State::Control, 0x07) => {
                self.state = State::Text;
            }
            (State::Sequence | State::Control, _) => {}
            // Ctrl-C, Ctrl-D, Ctrl-Z and Ctrl-\.
            (State::Text, 0x03 | 0x04 | 0x1a | 0x1c) => {
                self.line.clear();
                return Step::Leave(byte);
            }
            (State::Text, 0x7f | 0x08) => {
                return Step::Echo(if self.line.pop().is_some() { "\x08 \x08" } else { "" });
            }
            // Ctrl-U.
            (State::Text, 0x15) => {
                let empty = self.line.is_empty();
                self.line.clear();
                return Step::Echo(if empty { "" } else { " ^U\r\n? " });
            }
            (State::Text, b' '..=b'~') if self.line.len() < LONGEST => {
                self.line.push(byte.into());
                return Step::Show(byte.into());
            }
            (State::Text, _) => {}
        }
        Step::Echo("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut editor = Editor::default();
        let steps = bytes.iter().map(|byte| editor.take(*byte));
        steps.filter_map(|step| if let Step::Line(line) = step { Some(line) } else { None }).collect()
    }

    #[test]
    fn what_is_typed_is_the_line() {
        assert_eq!(lines(b"once\rd\n"), ["once", "d"]);
        assert_eq!(lines(b"x\x7fda\x08\r"), ["d"]);
        assert_eq!(lines(b"once\x15d\r"), ["d"]);
        assert_eq!(lines(b"\x7f\x15\r"), [""]);
    }

    #[test]
    fn what_a_terminal_answers_is_not() {
        // Where the cursor is, what the terminal is, its title, its colours, a key with Alt, one of the keypad.
        for answer in [
            &b"\x1b[5;1R"[..],
            b"\x1b[?64;1;2c",
            b"\x1b]lo\x1b\\",
            b"\x1b]11;rgb:0000/0000/0000\x07",
            b"\x1bP1$r0m\x1b\\",
            b"\x1bo",
            b"\x1bOo",
        ] {
            assert_eq!(lines(&[answer, b"d\r"].concat()), ["d"], "{answer:?}");
        }
    }

    #[test]
    fn keys_of_the_job_are_for_the_run() {
        let mut editor = Editor::default();
        editor.take(b'o');
        assert_eq!(editor.take(0x03), Step::Leave(0x03));
        assert_eq!(editor.take(b'\r'), Step::Line(String::new()));
    }

    proptest! {
        #[test]
        fn lines_are_short_and_plain(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for line in lines(&[&bytes[..], b"\r"].concat()) {
                prop_assert!(line.len() <= LONGEST && line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
        }

        #[test]
        fn the_return_key_always_begins_anew(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let all = lines(&[&bytes[..], b"\rdeny\r"].concat());
            prop_assert_eq!(all.last().map(String::as_str), Some("deny"));
        }
    }
}
