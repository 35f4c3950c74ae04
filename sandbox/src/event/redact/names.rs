//! Names that tell of a secret: of variables, flags, headers, fields and settings. One notion for all.
//!
//! Nothing but the name is looked at; what the value says for itself is `shapes`'.

/// What a name says about the value that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// Nothing secret.
    None,
    /// Where a secret lies, or who has it: `TOKEN_FILE`, `ACCESS_KEY_ID`.
    Place,
    /// A key of some kind; a secret if it looks like one.
    ByValue,
    /// A secret, unless it is a path to one.
    UnlessPath,
    /// A secret.
    Secret,
}

/// The longest name that is looked at, in bytes; no real one is longer.
pub const NAME_MAX: usize = 128;

/// Words whose value is a secret.
const SECRET: &[&str] = &[
    "token",
    "secret",
    "secrets",
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "passcode",
    "apikey",
    "authtoken",
    "accesstoken",
    "sshpass",
];

/// Words that are such only at the end of a name: `--pass`, but not `-Wpass-failed`.
const SECRET_LAST: &[&str] = &["pass", "pwd", "pw", "pat", "jwt", "bearer"];

/// Words that end in one of these are such words too: `PGPASSWORD`, `GHTOKEN`.
const SECRET_ENDS: &[&str] = &["token", "password", "passwd", "passphrase", "apikey", "secret"];

/// Words before `key` that say what kind of key it is: a secret one.
const SECRET_KEYS: &[&str] = &[
    "access",
    "account",
    "admin",
    "api",
    "app",
    "application",
    "auth",
    "consumer",
    "deploy",
    "encryption",
    "master",
    "private",
    "service",
    "session",
    "shared",
    "signing",
    "storage",
    "subscription",
];

/// Words beside which a key is no secret.
const OPEN_KEYS: &[&str] = &[
    "cache",
    "column",
    "foreign",
    "group",
    "host",
    "hosts",
    "idempotency",
    "issue",
    "partition",
    "primary",
    "project",
    "public",
    "row",
    "sort",
];

/// Last words of a name that tells where the secret is, or whose.
const PLACES: &[&str] = &[
    "file", "files", "path", "dir", "id", "ids", "name", "names", "stdin", "fd", "env", "var", "url", "uri",
    "sock", "socket",
];

/// Last words of a name that tells something about the secret.
const ABOUT: &[&str] = &[
    "age",
    "algorithm",
    "backend",
    "budget",
    "cmd",
    "command",
    "count",
    "enabled",
    "endpoint",
    "expiration",
    "expires",
    "expiry",
    "field",
    "format",
    "header",
    "helper",
    "host",
    "length",
    "len",
    "lifetime",
    "limit",
    "manager",
    "max",
    "min",
    "policy",
    "port",
    "prefix",
    "prompt",
    "provider",
    "required",
    "ring",
    "rotation",
    "scope",
    "scopes",
    "server",
    "service",
    "size",
    "store",
    "suffix",
    "timeout",
    "ttl",
    "type",
    "usage",
    "user",
    "username",
    "version",
];

/// First words of a flag that asks for something to be done, and takes no secret.
const ACTS: &[&str] = &[
    "allow", "ask", "check", "clear", "create", "delete", "disable", "enable", "generate", "get", "hide",
    "keep", "list", "no", "print", "prompt", "require", "reset", "revoke", "rotate", "save", "set", "show",
    "skip", "store", "unset", "use", "with", "without",
];

/// What the name of a variable, field, header or setting says.
pub fn secrecy(name: &[u8]) -> Secrecy {
    if !may_tell(name) || matches!(name, b"PWD" | b"OLDPWD") {
        return Secrecy::None;
    }
    match name {
        b"SSH_AUTH_SOCK" => return Secrecy::Place,
        // npm's: user and password in base64.
        b"_auth" => return Secrecy::Secret,
        _ => {}
    }
    let words = Words::of(name);
    let told = words.told();
    let Some(last) = words.last() else { return Secrecy::None };
    match last {
        _ if told == Secrecy::None || is_one(last, ABOUT) => Secrecy::None,
        _ if is_one(last, PLACES) => Secrecy::Place,
        _ => told,
    }
}

/// Whether a name has the beginning of any word that tells of a secret: most names have none, and most words of most
/// command lines are looked at.
fn may_tell(name: &[u8]) -> bool {
    const BEGINS: &[&[u8; 3]] =
        &[b"tok", b"sec", b"pas", b"pwd", b"pat", b"jwt", b"bea", b"key", b"aut", b"cre", b"api"];
    let begins = |three: &[u8]| {
        let first = three[0] | 0x20;
        matches!(first, b't' | b's' | b'p' | b'j' | b'b' | b'k' | b'a' | b'c')
            && BEGINS.iter().any(|begin| three.eq_ignore_ascii_case(&begin[..]))
    };
    name.len() <= NAME_MAX && (name.windows(3).any(begins) || ends_in_pw(name))
}

fn ends_in_pw(name: &[u8]) -> bool {
    let letters = name.len() - name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    name[..letters].last_chunk::<2>().is_some_and(|end| end.eq_ignore_ascii_case(b"pw"))
}

/// What the name of a flag, without its dashes, says about the word after it.
pub fn flag(name: &[u8]) -> Secrecy {
    if !may_tell(name) || name.contains(&b'/') || name.contains(&b' ') {
        return Secrecy::None;
    }
    // A flag says what it takes with its last word: `--token-limit`, `-fpass-plugin`.
    if is_act(name) || Words::of(name).told_last() == Secrecy::None { Secrecy::None } else { secrecy(name) }
}

/// Whether a name asks for something to be done: `set-credentials`.
pub fn is_act(name: &[u8]) -> bool {
    Words::of(name).first().is_some_and(|word| is_one(word, ACTS))
}

fn is_one(word: &[u8], words: &[&str]) -> bool {
    words.iter().any(|known| known.as_bytes() == word)
}

/// The words of a name in lower case, each followed by one NUL: `clientSecret`, `X-Api-Key`, `db.password`.
struct Words {
    text: [u8; 2 * NAME_MAX],
    len: usize,
}

impl Words {
    fn of(name: &[u8]) -> Words {
        let mut words = Words { text: [0; 2 * NAME_MAX], len: 0 };
        let mut before = b' ';
        for byte in name.iter().take(NAME_MAX) {
            let new_word = byte.is_ascii_uppercase() && before.is_ascii_lowercase();
            if new_word || !byte.is_ascii_alphanumeric() {
                words.end();
            }
            if byte.is_ascii_alphanumeric() {
                words.push(byte.to_ascii_lowercase());
            }
            before = *byte;
        }
        words.end();
        words
    }

    fn push(&mut self, byte: u8) {
        self.text[self.len] = byte;
        self.len += 1;
    }

    fn end(&mut self) {
        if self.len > 0 && self.text[self.len - 1] != 0 {
            self.push(0);
        }
    }

    /// The words; a number at the end (`TOKEN_2`, `KEY1`) says nothing.
    fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        let words = self.text[..self.len].split(|byte| *byte == 0).map(|word| {
            let digits = word.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
            &word[..word.len() - digits]
        });
        words.filter(|word| !word.is_empty())
    }

    fn first(&self) -> Option<&[u8]> {
        self.iter().next()
    }

    fn last(&self) -> Option<&[u8]> {
        self.iter().next_back()
    }

    /// What the words say, whatever the last one adds.
    fn told(&self) -> Secrecy {
        let mut told = self.told_last();
        let mut before: &[u8] = b"";
        for word in self.iter() {
            if matches!(word, b"ask" | b"askpass") {
                return Secrecy::None;
            }
            told = stronger(told, word_says(before, word));
            before = word;
        }
        told
    }

    /// What the last word says, with the one before it.
    fn told_last(&self) -> Secrecy {
        let mut words = self.iter().rev();
        let (Some(last), before) = (words.next(), words.next()) else { return Secrecy::None };
        if is_one(last, SECRET_LAST) { Secrecy::Secret } else { word_says(before.unwrap_or_default(), last) }
    }
}

/// What a word says, wherever it stands behind `before`.
fn word_says(before: &[u8], word: &[u8]) -> Secrecy {
    match word {
        _ if is_one(word, SECRET) => Secrecy::Secret,
        _ if SECRET_ENDS.iter().any(|end| word.ends_with(end.as_bytes())) => Secrecy::Secret,
        b"key" | b"keys" if is_one(before, SECRET_KEYS) => Secrecy::UnlessPath,
        b"key" | b"keys" if is_one(before, OPEN_KEYS) => Secrecy::None,
        b"key" | b"auth" => Secrecy::ByValue,
        b"credential" | b"credentials" | b"creds" => Secrecy::UnlessPath,
        _ => Secrecy::None,
    }
}

fn stronger(one: Secrecy, other: Secrecy) -> Secrecy {
    if other as u8 > one as u8 { other } else { one }
}

/// Whether a value looks like key material and not like a name, number or path.
pub fn looks_like_material(value: &[u8]) -> bool {
    let has = |what: fn(&u8) -> bool| value.iter().any(what);
    (16..=4096).contains(&value.len())
        && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=_-".contains(byte))
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && !is_uuid(value)
        && !is_digest(value)
        && !is_path(value)
}

/// Whether a value is a path, as far as can be told by looking.
pub fn is_path(value: &[u8]) -> bool {
    let rooted =
        [&b"/"[..], b"./", b"../", b"~/", b"@", b"file:", b"~"].iter().any(|begin| value.starts_with(begin));
    let ended =
        [&b".pem"[..], b".key", b".json", b".txt", b".pub", b".p12", b".crt", b".yml", b".yaml", b".asc"]
            .iter()
            .any(|end| value.ends_with(end));
    (rooted && !value.contains(&b'+') && !value.ends_with(b"=")) || ended
}

fn is_uuid(value: &[u8]) -> bool {
    value.len() == 36
        && value.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Whether a value may be the hash of a commit or a file.
fn is_digest(value: &[u8]) -> bool {
    matches!(value.len(), 32 | 40 | 64) && value.iter().all(u8::is_ascii_hexdigit)
}

/// Whether a value says yes, no or nothing, which is no secret whatever it is called.
pub fn is_plain_answer(value: &[u8]) -> bool {
    const ANSWERS: &[&str] = &[
        "", "-", "0", "1", "true", "false", "yes", "no", "on", "off", "none", "null", "nil", "stdin",
        "prompt",
    ];
    value.len() < 8 && ANSWERS.iter().any(|answer| value.eq_ignore_ascii_case(answer.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_stand_for() {
        let secret = [
            "GITHUB_TOKEN",
            "PGPASSWORD",
            "MYSQL_PWD",
            "clientSecret",
            "db.password",
            "SSHPASS",
            "token2",
            "_authToken",
            "_auth",
        ];
        let unless_path =
            ["ANTHROPIC_API_KEY", "X-Api-Key", "AccountKey", "GOOGLE_APPLICATION_CREDENTIALS", "private-key"];
        let by_value = ["KEY", "STRIPE_KEY", "ssh-key", "auth"];
        let places = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ACCESS_KEY_ID", "SSH_AUTH_SOCK", "token-path"];
        let none = [
            "TOKENIZERS_PARALLELISM",
            "KEYBOARD",
            "PATH",
            "PWD",
            "OLDPWD",
            "max-tokens",
            "token_limit",
            "cache-key",
            "PUBLIC_KEY",
            "SSH_ASKPASS",
            "GIT_ASKPASS",
            "BYPASS",
            "compass",
            "author",
            "monkey",
            "",
            "keyring",
            "password-store",
            "Wpass-failed",
        ];
        let table = [
            (&secret[..], Secrecy::Secret),
            (&unless_path, Secrecy::UnlessPath),
            (&by_value, Secrecy::ByValue),
            (&places, Secrecy::Place),
            (&none, Secrecy::None),
        ];
        for (names, expected) in table {
            for name in names {
                assert_eq!(secrecy(name.as_bytes()), expected, "{name}");
            }
        }
        assert_eq!(flag(b"with-token"), Secrecy::None);
        assert_eq!(flag(b"no-password"), Secrecy::None);
        assert_eq!(flag(b"access-token"), Secrecy::Secret);
        assert_eq!(flag(b"token-bucket"), Secrecy::None);
    }

    #[test]
    fn every_word_that_tells_passes_the_first_look() {
        for word in [SECRET, SECRET_LAST, SECRET_ENDS, &["key", "auth", "credential", "creds"]].concat() {
            assert!(may_tell(word.as_bytes()), "{word}");
            assert!(may_tell(format!("DB_{word}2").to_ascii_uppercase().as_bytes()), "{word}");
            assert_ne!(secrecy(word.as_bytes()), Secrecy::None, "{word}");
        }
    }

    #[test]
    fn material_is_told_from_names_numbers_and_paths() {
        for material in ["Zk3VYp0qA7fR2mLx", "d2h5IG5vdCBzYXkgc28=", "abc123abc123abc123abc1"] {
            assert!(looks_like_material(material.as_bytes()), "{material}");
        }
        let others = [
            "id",
            "2",
            "linux-cargo-registry",
            "/etc/keys/server1.pem",
            "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "1234567890123456",
            "~/.ssh/id_ed25519",
            "",
        ];
        for other in others {
            assert!(!looks_like_material(other.as_bytes()), "{other}");
        }
    }
}
