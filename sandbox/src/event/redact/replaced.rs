//! What a shell puts something else in the place of: `$NAME`, `${NAME:-VALUE}`, `$(command)`.

use std::ops::Range;

/// Defaults within defaults that are looked into.
const DEPTH: usize = 4;

/// What a value begins with that stands for something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// How long it is.
    pub len: usize,
    /// What stands for itself in it: a value for a name that has none.
    pub default: Option<Range<usize>>,
}

/// The part of a value that stands for itself: all of it, where not all is replaced.
pub fn literal(value: &[u8]) -> Range<usize> {
    let mut part = 0..value.len();
    for _ in 0..DEPTH {
        let inner = unquoted(value, part.clone());
        let text = &value[inner.clone()];
        match reference(text) {
            Some(Reference { len, default }) if len == text.len() => match default {
                None => return 0..0,
                Some(default) => part = inner.start + default.start..inner.start + default.end,
            },
            Some(_) if all_replaced(text) => return 0..0,
            _ => return part,
        }
    }
    part
}

/// Without the double quotes around it, of which one may have been lost.
fn unquoted(value: &[u8], part: Range<usize>) -> Range<usize> {
    let begin = part.start + usize::from(value[part.clone()].first() == Some(&b'"'));
    let end = part.end - usize::from(value[begin..part.end].last() == Some(&b'"'));
    begin..end
}

/// Whether a value is nothing but names that are replaced.
fn all_replaced(value: &[u8]) -> bool {
    let mut at = 0;
    while at < value.len() {
        at += match reference(&value[at..]) {
            Some(Reference { len, default: None }) => len,
            _ if value[at] == b'"' => 1,
            _ => return false,
        };
    }
    true
}

/// What a value begins with, where that is replaced.
pub fn reference(value: &[u8]) -> Option<Reference> {
    let whole = |len| Some(Reference { len, default: None });
    match value {
        // A parenthesis ends a word.
        [b'$'] | [b'$', b'(', ..] | [b'`', ..] => whole(value.len()),
        [b'$', b'{', ..] => braced(value),
        [b'$', b'@' | b'*' | b'#' | b'?' | b'!' | b'$', ..] => whole(2),
        [b'$', first, ..] if first.is_ascii_digit() => {
            whole(1 + value[1..].iter().take_while(|byte| byte.is_ascii_digit()).count())
        }
        [b'$', rest @ ..] => match name_len(rest) {
            0 => None,
            len => whole(1 + len),
        },
        _ => None,
    }
}

fn name_len(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

/// `${NAME…}`; without its end it goes to the end.
fn braced(value: &[u8]) -> Option<Reference> {
    let sign = usize::from(matches!(value.get(2), Some(b'#' | b'!')));
    let name = name_len(value.get(2 + sign..)?);
    let close = closing(&value[2..]).map(|len| 2 + len);
    if name == 0 {
        return None;
    }
    let end = close.unwrap_or(value.len());
    let default = default_begin(&value[..end], 2 + sign + name).filter(|begin| *begin < end);
    Some(Reference {
        len: (end + 1).min(value.len()),
        default: default.map(|begin| without_quotes(value, begin..end)),
    })
}

/// Where the value for a name that has none begins, behind the name's end.
pub fn default_begin(text: &[u8], name_end: usize) -> Option<usize> {
    match text.get(name_end..)? {
        [b':', b'-' | b'=' | b'+', ..] => Some(name_end + 2),
        [b'-' | b'=' | b'+', ..] => Some(name_end + 1),
        _ => None,
    }
}

/// Where the brace closes that is open before the text.
pub fn closing(text: &[u8]) -> Option<usize> {
    let mut open = 1_usize;
    text.iter().enumerate().find_map(|(at, byte)| {
        match byte {
            b'{' if at > 0 && text[at - 1] == b'$' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        (open == 0).then_some(at)
    })
}

/// A part without the quotes around all of it.
pub fn without_quotes(text: &[u8], part: Range<usize>) -> Range<usize> {
    match text[part.clone()] {
        [first @ (b'"' | b'\''), .., last] if first == last => part.start + 1..part.end - 1,
        _ => part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_is_not_literal() {
        for (value, expected) in [
            ("$A", ""),
            ("\"$A\"", ""),
            ("$A$B", ""),
            ("\"$A\"\"${B}\"", ""),
            ("${A%%,*}", ""),
            ("${A[0]}", ""),
            ("${A:?say so}", ""),
            ("$(cat a)", ""),
            ("$1", ""),
            ("${A:-}", ""),
            ("${A:-$B}", ""),
            ("${A:-b}", "b"),
            ("${A:-\"b c\"}", "b c"),
            ("${A:-${B:=c}}", "c"),
            ("${A:-$", ""),
            ("$Ab-c", "$Ab-c"),
            ("$1a", "$1a"),
            ("$'a'", "$'a'"),
            ("a", "a"),
        ] {
            assert_eq!(&value[literal(value.as_bytes())], expected, "{value}");
        }
    }
}
