//! Secrets that are known by their shape, whatever stands before them: tokens with a well-known beginning, signed
//! tokens, private keys, addresses of webhooks.

use super::cuts::Cuts;

/// What a token is made of behind its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    /// Letters, digits, `_`.
    Word,
    /// Letters, digits, `_`, `-`, `.`.
    Dashes,
    /// As `Dashes`, with a digit and a letter among them: the beginning is one that words have too.
    Mixed,
}

/// Beginnings of tokens, what follows them, and how much of that at least. A token cut short is one too, as long as
/// what is left could be of use.
const TOKENS: &[(&str, Made, usize)] = &[
    ("AGE-SECRET-KEY-1", Made::Word, 16),
    ("AIza", Made::Dashes, 24),
    ("ATATT3x", Made::Mixed, 16),
    ("GOCSPX-", Made::Dashes, 16),
    ("SG.", Made::Mixed, 32),
    ("atlasv1.", Made::Dashes, 16),
    ("cio", Made::Mixed, 32),
    ("ddp_", Made::Mixed, 24),
    ("dckr_pat_", Made::Dashes, 16),
    ("dop_v1_", Made::Word, 16),
    ("figd_", Made::Mixed, 16),
    ("github_pat_", Made::Word, 16),
    ("glagent-", Made::Dashes, 16),
    ("gldt-", Made::Dashes, 16),
    ("glft-", Made::Dashes, 16),
    ("glpat-", Made::Dashes, 16),
    ("glptt-", Made::Dashes, 16),
    ("glrt-", Made::Dashes, 16),
    ("glsa_", Made::Word, 16),
    ("gho_", Made::Word, 16),
    ("ghp_", Made::Word, 16),
    ("ghr_", Made::Word, 16),
    ("ghs_", Made::Word, 16),
    ("ghu_", Made::Word, 16),
    ("gsk_", Made::Mixed, 24),
    ("hf_", Made::Mixed, 16),
    ("hvb.", Made::Dashes, 16),
    ("hvs.", Made::Dashes, 16),
    ("lin_api_", Made::Word, 16),
    ("npm_", Made::Mixed, 24),
    ("nvapi-", Made::Mixed, 24),
    ("ntn_", Made::Mixed, 24),
    ("pplx-", Made::Mixed, 24),
    ("pul-", Made::Mixed, 24),
    ("pypi-AgEI", Made::Dashes, 16),
    ("r8_", Made::Mixed, 24),
    ("rk_live_", Made::Word, 16),
    ("rk_test_", Made::Word, 16),
    ("rubygems_", Made::Mixed, 24),
    ("sha256~", Made::Dashes, 20),
    ("shpat_", Made::Word, 16),
    ("shpss_", Made::Word, 16),
    ("sk-ant-", Made::Dashes, 16),
    ("sk-", Made::Mixed, 20),
    ("sk_live_", Made::Word, 16),
    ("sk_test_", Made::Word, 16),
    ("tskey-", Made::Mixed, 16),
    ("whsec_", Made::Mixed, 16),
    ("xai-", Made::Mixed, 24),
    ("xapp-", Made::Mixed, 16),
    ("xoxa-", Made::Dashes, 12),
    ("xoxb-", Made::Dashes, 12),
    ("xoxe.", Made::Dashes, 12),
    ("xoxe-", Made::Dashes, 12),
    ("xoxp-", Made::Dashes, 12),
    ("xoxr-", Made::Dashes, 12),
    ("xoxs-", Made::Dashes, 12),
    ("ya29.", Made::Dashes, 16),
];

/// Addresses that let everybody in who knows them: what stands before the secret, and how many parts of the path
/// behind it are open.
const WEBHOOKS: &[(&str, usize)] = &[
    ("hooks.slack.com/services/", 0),
    ("hooks.slack.com/workflows/", 0),
    ("hooks.slack.com/triggers/", 0),
    ("discord.com/api/webhooks/", 1),
    ("discordapp.com/api/webhooks/", 1),
    (".webhook.office.com/", 0),
    ("outlook.office.com/webhook/", 0),
    ("hooks.zapier.com/hooks/catch/", 1),
    ("maker.ifttt.com/use/", 0),
];

/// Bytes of a token that are looked at to tell whether it is one.
const LOOK: usize = 256;

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// How many bytes of a value say what kind of token it is.
pub fn prefix_len(value: &[u8]) -> usize {
    let known = TOKENS.iter().filter(|(begin, ..)| value.starts_with(begin.as_bytes()));
    known.map(|(begin, ..)| begin.len()).max().unwrap_or(0)
}

/// Whether a shape can begin with this byte.
pub fn may_begin(byte: u8) -> bool {
    const BEGINS: [bool; 256] = {
        let mut begins = [false; 256];
        let mut at = 0;
        while at < TOKENS.len() {
            begins[TOKENS[at].0.as_bytes()[0] as usize] = true;
            at += 1;
        }
        let mut at = 0;
        while at < WEBHOOKS.len() {
            begins[WEBHOOKS[at].0.as_bytes()[0] as usize] = true;
            at += 1;
        }
        begins[b'e' as usize] = true;
        begins[b'b' as usize] = true;
        begins[b'-' as usize] = true;
        begins
    };
    BEGINS[usize::from(byte)]
}

/// Cuts the secret whose shape begins at `at`; gives where it ends.
pub fn cut_at(text: &[u8], at: usize, cuts: &mut Cuts) -> Option<usize> {
    let rest = &text[at..];
    let before = at.checked_sub(1).map(|before| text[before]);
    let inside = |what: fn(u8) -> bool| before.is_some_and(what);
    let (keep, len) = match rest.first()? {
        b'-' => private_key(rest)?,
        b'.' => webhook(rest)?,
        _ if inside(|byte| byte.is_ascii_alphanumeric()) => return None,
        b'e' if rest.starts_with(b"eyJ") && !inside(is_token_byte) => signed(rest)?,
        _ => token(rest).or_else(|| webhook(rest)).or_else(|| telegram(text, at))?,
    };
    cuts.add(at + keep..at + len);
    Some(at + len)
}

/// A token with a well-known beginning: how much of it stays, how long it is.
fn token(rest: &[u8]) -> Option<(usize, usize)> {
    let (begin, made, least) = TOKENS
        .iter()
        .filter(|(begin, ..)| rest.starts_with(begin.as_bytes()))
        .max_by_key(|(begin, ..)| begin.len())?;
    let body = &rest[begin.len()..];
    let fits = |byte: &u8| match made {
        Made::Word => byte.is_ascii_alphanumeric() || *byte == b'_',
        Made::Dashes | Made::Mixed => is_token_byte(*byte),
    };
    // What a token is shows at its beginning; what is none must not be read to its end again and again.
    let seen = &body[..body.iter().take(LOOK).take_while(|byte| fits(byte)).count()];
    let mixed = || seen.iter().any(u8::is_ascii_digit) && seen.iter().any(u8::is_ascii_alphabetic);
    if seen.len() < *least || (*made == Made::Mixed && !mixed()) {
        return None;
    }
    let len = body.iter().take_while(|byte| fits(byte)).count();
    Some((begin.len(), begin.len() + len))
}

/// A signed token (RFC 7519): three parts with dots between them, the first two JSON objects in base64.
fn signed(rest: &[u8]) -> Option<(usize, usize)> {
    let len = rest.iter().take_while(|byte| is_token_byte(**byte)).count();
    let mut parts = rest[..len].split(|byte| *byte == b'.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    (header.len() > 8 && payload.len() > 3 && signature.len() > 3).then_some((3, len))
}

/// A private key in PEM: everything behind its first line, up to its last or to the end.
fn private_key(rest: &[u8]) -> Option<(usize, usize)> {
    let label = rest.strip_prefix(b"-----BEGIN ")?;
    let end = label.iter().take(64).position(|byte| *byte == b'-')?;
    if !label[..end].ends_with(b"PRIVATE KEY") && !label[..end].ends_with(b"PRIVATE KEY BLOCK") {
        return None;
    }
    let keep = b"-----BEGIN ".len() + end + b"-----".len();
    let body = rest.get(keep..)?;
    let len = body.windows(9).position(|window| window == b"-----END ").unwrap_or(body.len());
    Some((keep, keep + len))
}

fn webhook(rest: &[u8]) -> Option<(usize, usize)> {
    let (begin, open) = WEBHOOKS.iter().find(|(begin, _)| rest.starts_with(begin.as_bytes()))?;
    let end = rest.iter().position(|byte| ends_address(*byte)).unwrap_or(rest.len());
    let mut keep = begin.len();
    for _ in 0..*open {
        keep += rest[keep..end].iter().position(|byte| *byte == b'/')? + 1;
    }
    (keep < end).then_some((keep, end))
}

/// `/bot<id>:<token>` of Telegram.
fn telegram(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = text[at..].strip_prefix(b"bot")?;
    if at == 0 || text[at - 1] != b'/' {
        return None;
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let secret = rest.get(digits..)?.strip_prefix(b":")?;
    let len = secret.iter().take_while(|byte| is_token_byte(**byte)).count();
    let keep = 3 + digits + 1;
    (digits >= 6 && len >= 16).then_some((keep, keep + len))
}

/// Whether an address in a text ends before this byte.
pub fn ends_address(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || matches!(byte, b'"' | b'\'' | b'`' | b'?' | b'#' | b'<' | b'>' | b')' | b'\\' | b'[')
}

/// Whether a text has the id of an AWS access key, whose secret part then stands beside it.
pub fn has_aws_key_id(text: &[u8]) -> bool {
    text.windows(20).any(|window| {
        matches!(&window[..4], b"AKIA" | b"ASIA")
            && window[4..].iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    })
}

/// Cuts what may be the secret part of an AWS access key: 40 characters of base64 that are no hash.
pub fn cut_aws_secrets(text: &[u8], cuts: &mut Cuts) {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let mut at = 0;
    while at < text.len() {
        let len = text[at..].iter().take_while(|byte| is_base64(**byte)).count();
        let run = &text[at..at + len];
        let is_secret = len == 40
            && run.iter().any(u8::is_ascii_uppercase)
            && run.iter().any(u8::is_ascii_lowercase)
            && run.iter().any(|byte| !byte.is_ascii_hexdigit());
        if is_secret {
            cuts.add(at..at + len);
        }
        at += len + 1;
    }
}
