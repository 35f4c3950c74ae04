//! A corpus of real command lines, and what must hold of any.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

const CORPUS: &str = include_str!("corpus.txt");
const OPEN: &str = "«";
const CLOSE: &str = "»";

/// `{aN}` and the like, replaced by as many characters: the same ones each time.
fn filled(line: &str) -> String {
    let alphabets = [
        ('a', "q7RkZ3vTb9XcLm2WpY5sHd8NfGj4"),
        ('h', "3fa9c0d17be2468f"),
        ('b', "Qk9x+Tz7Rm/Wb3Lc"),
        ('m', "Qk9xATz7Rm/Wb3Lc"),
    ];
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let end = rest[at..].find('}').map(|end| at + end);
        let wanted = end.and_then(|end| {
            let inner = &rest[at + 1..end];
            let (_, alphabet) = alphabets.iter().find(|(kind, _)| inner.starts_with(*kind))?;
            let count: usize = inner[1..].parse().ok()?;
            Some((alphabet.chars().cycle().take(count).collect::<String>(), end + 1))
        });
        let (text, next) = wanted.unwrap_or_else(|| ("{".to_owned(), at + 1));
        out.push_str(&text);
        rest = &rest[next..];
    }
    out + rest
}

/// `\xNN`, `␣` and `␤` as the bytes that they stand for.
fn bytes(word: &str) -> Vec<u8> {
    if word == "_" {
        return Vec::new();
    }
    let word = word.replace('␣', " ").replace('␤', "\n");
    let mut out = Vec::new();
    let mut rest = word.as_str();
    while let Some(at) = rest.find("\\x") {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        out.push(u8::from_str_radix(&rest[at + 2..at + 4], 16).expect("two digits"));
        rest = &rest[at + 4..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

struct Case {
    line: &'static str,
    argv: Vec<Vec<u8>>,
    expected: Vec<Vec<u8>>,
    secrets: Vec<Vec<u8>>,
}

fn case(line: &'static str) -> Case {
    let filled = filled(line);
    let argv = filled.replace([OPEN, CLOSE].map(|mark| mark.chars().next().unwrap()), "");
    let mut expected = String::new();
    let mut secrets = Vec::new();
    let mut rest = filled.as_str();
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (secret, after) = after.split_once(CLOSE).expect("a closing mark");
        expected.push_str(before);
        expected.push_str("[redacted]");
        secrets.push(bytes(secret));
        rest = after;
    }
    expected.push_str(rest);
    let words = |line: &str| line.split(' ').map(bytes).collect();
    Case { line, argv: words(&argv), expected: words(&expected), secrets }
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(case).collect()
});

fn shown(argv: &[Vec<u8>]) -> String {
    argv.iter().map(|word| String::from_utf8_lossy(word).replace(' ', "␣")).collect::<Vec<_>>().join(" ")
}

#[test]
fn real_command_lines_lose_their_secrets_and_nothing_else() {
    let secret = CASES.iter().filter(|case| !case.secrets.is_empty()).count();
    assert!(CASES.len() >= 150 && secret >= 75 && CASES.len() - secret >= 60, "{secret} of {}", CASES.len());
    let mut wrong = String::new();
    for case in CASES.iter() {
        let mut argv = case.argv.clone();
        let found = arguments(&mut argv);
        if argv != case.expected || found == case.secrets.is_empty() {
            wrong += &format!("\n  {}\n   is {}\n  not {}", case.line, shown(&argv), shown(&case.expected));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_was_redacted_stays_as_it_is() {
    for case in CASES.iter() {
        let mut argv = case.expected.clone();
        arguments(&mut argv);
        assert_eq!(shown(&argv), shown(&case.expected), "{}", case.line);
    }
}

/// Time grows with the size: what makes each part look ahead, a thousand times over, as long as argv can be.
#[test]
fn hostile_lines_are_read_in_bounded_time() {
    let parts: &[&str] = &[
        "sk-",
        "eyJ",
        "key=",
        "://",
        "://a:b/",
        "x://a:b",
        "X-Key:",
        "a:",
        "\"key\":",
        "key='",
        "password=\"",
        ",a",
        "=",
        "-----BEGIN ",
        "hooks.slack.com/services/",
        "discord.com/api/webhooks/",
        "sh -c '",
        "\\",
        "'",
        "\"",
        "AKIA",
        "bot1:",
        "token=&",
        "Authorization: ",
        "@",
        "ghp_",
        "private_key=/",
    ];
    // Three times what a record holds: anything quadratic would take minutes, and the test with it.
    read_repeated(parts, 48 << 10);
}

/// The same for what scripts are made of, as long as one argument can be.
#[test]
fn hostile_scripts_are_read_in_bounded_time() {
    let parts: &[&str] = &[
        "<<A",
        "<<A\n",
        "<<A ",
        "<<-'A' <<<b\n",
        "cat <<A |\n",
        "x --password-stdin <<A\nb\n",
        "<<<",
        "<<<'",
        "''",
        "'a'\"b\"",
        "password='a'",
        "password=\"a\"'",
        "token=$'",
        "${",
        "${A:-",
        "${TOKEN:-",
        "${KEY:-a",
        "${KEY:-a}",
        "token=${A:-",
        "TOKEN=\"${A:-",
        "key=${A:-/",
        "token=$A$A",
        "$A",
        "(",
        ")",
        "((",
        "$(",
        "$(echo a ",
        "(echo a;",
        "{ echo a;",
        "{ ",
        "} ",
        "(a)|",
        "a|&",
        "echo a|",
        "cat|",
        "machine ",
        "machine h login u ",
        "default login ",
        "machine\\n",
        "<password>",
        "<password ",
        "<key>a",
        "<",
        "\npassword: ",
        "\nPASSWORD=",
        "Authorization:\"",
        "Authorization: Bearer\n",
        "\"Authorization\":\"",
        "machine login password ",
        "\"password\":\"'x",
        "'Authorization: Bearer '\"",
        "a <(echo b) ",
        "a < <(echo b) ",
    ];
    read_repeated(parts, 128 << 10);
}

fn read_repeated(parts: &[&str], len: usize) {
    for part in parts {
        for tool in ["x", "sh"] {
            let long = part.repeat(len / part.len()).into_bytes();
            arguments(&mut [tool.into(), b"-c".to_vec(), long]);
        }
    }
}

fn secret() -> impl Strategy<Value = String> {
    "[A-Za-z0-9+/_.~!%^*-]{7,40}[A-Z0-9]"
        .prop_filter("is one, and no flag", |secret| !secret.starts_with('-'))
}

/// Ways to give a secret away; `{}` is where it stands.
const TEMPLATES: &[&[&str]] = &[
    &["t", "--token", "{}"],
    &["t", "--password={}"],
    &["curl", "-u", "ann:{}", "https://h/"],
    &["curl", "-H", "Authorization: Bearer {}"],
    &["curl", "-H", "X-Api-Token: {}"],
    &["mysql", "-p{}"],
    &["sshpass", "-p", "{}", "ssh", "h"],
    &["env", "GITHUB_TOKEN={}", "gh"],
    &["sh", "-c", "DB_PASSWORD='{}' run"],
    &["sh", "-c", "curl -u 'ann:{}' h"],
    &["docker", "login", "-u", "a", "-p", "{}"],
    &["t", "{\"password\": \"{}\"}"],
    &["redis-cli", "-a", "{}"],
    &["aws", "configure", "set", "aws_secret_access_key", "{}"],
    &["t", "https://ann:{}@h/p"],
    &["sh", "-c", "docker login --password-stdin <<'E'\n{}\nE"],
    &["sh", "-c", "docker login --password-stdin <<< '{}'"],
    &["sh", "-c", "{ echo '{}'; } |& docker login --password-stdin"],
    &["sh", "-c", "TOKEN=${TOKEN:-{}} run"],
    &["sh", "-c", "export PASSWORD='{}'\"x\"; run"],
    &["t", "Authorization:", "Bearer {}"],
    &["htpasswd", "-bc", "f", "u", "{}"],
    &["jq", "--arg", "password", "{}", "."],
    &["t", "<password>{}</password>"],
    &["t", "machine h login u password {}"],
    &["curl", "-x", "ann:{}@h:3128", "https://h/"],
];

#[test]
fn what_was_cut_out_names_no_program() {
    let mut argv = [b"${TOKEN:-://awk".to_vec(), b"\nPASSWORD=sh".to_vec()];
    assert!(arguments(&mut argv));
    assert_eq!(shown(&argv), "${TOKEN:-[redacted] \nPASSWORD=[redacted]");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_secret_in_a_known_place_is_never_left(
        template in prop::sample::select(TEMPLATES),
        secret in secret(),
        before in prop::collection::vec("[a-z]{1,8}", 0..3),
    ) {
        // In an address a slash is escaped: behind digits it would end a port.
        let address = template.concat().contains("ann:{}@");
        let secret = if address { secret.replace('/', "%2F") } else { secret };
        let mut argv: Vec<Vec<u8>> = template.iter().map(|word| word.replace("{}", &secret).into_bytes()).collect();
        argv.splice(0..0, before.into_iter().map(String::into_bytes));
        prop_assert!(arguments(&mut argv));
        let left = argv.concat();
        // The beginning that tells the kind may stay.
        let tail = &secret.as_bytes()[secret.len() - 4..];
        prop_assert!(!left.windows(secret.len()).any(|part| part == secret.as_bytes()), "{}", shown(&argv));
        prop_assert!(!left.windows(4).any(|part| part == tail) || template.concat().contains(&secret[secret.len() - 4..]), "{}", shown(&argv));
    }

    #[test]
    fn any_bytes_are_read_and_a_second_time_changes_nothing(
        argv in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                prop::collection::vec(prop::sample::select(PIECES), 1..8).prop_map(|pieces| pieces.concat().into_bytes()),
            ],
            0..8,
        ),
    ) {
        let mut once = argv.clone();
        let found = arguments(&mut once);
        prop_assert!(found || once == argv);
        let mut twice = once.clone();
        arguments(&mut twice);
        prop_assert_eq!(shown(&twice), shown(&once));
    }

    /// Without a sign of a secret nothing is touched: no flag, `=`, `:` or `@`, no beginning of a token.
    #[test]
    fn words_without_a_sign_stay(argv in prop::collection::vec("[b-dB-D0-9/, .]{0,60}", 0..8)) {
        let mut argv: Vec<Vec<u8>> = argv.into_iter().map(String::into_bytes).collect();
        let before = argv.clone();
        prop_assert!(!arguments(&mut argv));
        prop_assert_eq!(argv, before);
    }
}

/// What hostile words are made of.
const PIECES: &[&str] = &[
    "sh",
    "-c",
    "curl",
    "-u",
    "mysql",
    "-p",
    "--token",
    "=",
    ":",
    "://",
    "@",
    "/",
    "password",
    "TOKEN",
    "key",
    "'",
    "\"",
    "\\",
    " ",
    "&",
    ";",
    ",",
    "Authorization: ",
    "Bearer ",
    "ghp_",
    "abcdefghijklmnopqrst1234",
    "eyJabcdefgh",
    ".",
    "AKIAIOSFODNN7EXAMPLE",
    "-----BEGIN PRIVATE KEY-----",
    "-----END ",
    "$",
    "{",
    "}",
    "[redacted]",
    "Cookie: ",
    "%",
    "pass:",
    "login",
    "docker",
    "set",
    "\n",
    "é",
    "-",
    "x",
    "<<E",
    "<<'E'",
    "\nE\n",
    "<<<",
    "(",
    ")",
    "{ ",
    "} ",
    "|",
    "echo ",
    "cat ",
    "--password-stdin",
    "${TOKEN:-",
    "$'",
    "<password>",
    "</password>",
    "machine h login u password ",
    "Authorization:",
    "awk",
    "jq",
    "--arg",
    "htpasswd",
    "\nPASSWORD=",
    "\npassword: hunter2",
];
