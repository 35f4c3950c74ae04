//! Programs whose flags and words take secrets that no name tells of: `curl -u`, `mysql -p`, `docker login -p`.

use std::{collections::HashMap, sync::LazyLock};

use super::Takes;

/// What one family of programs takes.
#[derive(Debug)]
pub struct Tool {
    /// Names of the programs.
    names: &'static [&'static str],
    /// Flags with what they take; a short one may have its value attached, or stand at the end of others.
    flags: &'static [(&'static str, Takes)],
    /// Words with what the word after them is; the empty one says what other words are.
    words: &'static [(&'static str, Takes)],
}

impl Tool {
    /// The program with this name, where it has flags of its own.
    pub fn named(name: &[u8]) -> Option<&'static Tool> {
        static BY_NAME: LazyLock<HashMap<&'static [u8], &'static Tool>> = LazyLock::new(|| {
            let names = |tool: &'static Tool| tool.names.iter().map(move |name| (name.as_bytes(), tool));
            TOOLS.iter().flat_map(names).collect()
        });
        let name = name.strip_suffix(b".exe").unwrap_or(name);
        if name.len() < 2 || name.len() > 16 { None } else { BY_NAME.get(name).copied() }
    }

    /// Whether a word with spaces in it is for a shell to read.
    pub fn reads_scripts(&self) -> bool {
        self.other_words() == Some(Takes::Script)
    }

    /// Whether words are programs in a language of its own.
    pub fn reads_code(&self) -> bool {
        self.other_words() == Some(Takes::Code)
    }

    /// Whether the last operand may be a secret.
    pub fn has_operands(&self) -> bool {
        self.other_words() == Some(Takes::Operands)
    }

    fn other_words(&self) -> Option<Takes> {
        self.words.iter().find(|(word, _)| word.is_empty()).map(|(_, takes)| *takes)
    }

    /// What a flag takes, by its whole name with dashes.
    pub fn flag(&self, name: &[u8]) -> Option<Takes> {
        self.flags.iter().find(|(flag, _)| flag.as_bytes() == name).map(|(_, takes)| *takes)
    }

    /// What is attached to a short flag.
    pub fn attached(&self, word: &[u8]) -> Option<Takes> {
        let short = word.get(..2).filter(|short| short[1] != b'-' && word.len() > 2)?;
        if self.has_long_names_behind_one_dash() {
            return None;
        }
        self.flag(short).or_else(|| if word.starts_with(b"-hp") { self.flag(b"-hp") } else { None })
    }

    fn has_long_names_behind_one_dash(&self) -> bool {
        self.names.contains(&"openssl")
    }

    /// What the last of several short flags in one word takes.
    pub fn last_of(&self, word: &[u8]) -> Option<Takes> {
        let [b'-', flags @ ..] = word else { return None };
        let letters = flags.len() > 1 && flags.len() < 12 && flags.iter().all(u8::is_ascii_alphabetic);
        let last = *flags.last()?;
        if letters { self.flag(&[b'-', last]) } else { None }
    }

    /// What the word after this one is.
    pub fn word(&self, word: &[u8]) -> Option<Takes> {
        let same = |(known, _): &&(&str, Takes)| !word.is_empty() && known.as_bytes() == word;
        self.words.iter().find(same).map(|(_, takes)| *takes)
    }
}

/// Operands of `htpasswd`: a file, unless there is none, a user, and with `-b` a password.
#[derive(Debug, Default)]
pub struct Operands {
    password: bool,
    no_file: bool,
    seen: usize,
}

impl Operands {
    /// Reads a word that begins with a dash.
    pub fn flag(&mut self, word: &[u8]) {
        if word.starts_with(b"--") {
            return;
        }
        self.password |= word.contains(&b'b');
        self.no_file |= word.contains(&b'n');
    }

    /// Whether the next operand is the password.
    pub fn is_secret(&mut self) -> bool {
        self.seen += 1;
        self.password && self.seen == if self.no_file { 2 } else { 3 }
    }
}

const SHELL: &[(&str, Takes)] = &[("-c", Takes::Script)];

const TOOLS: &[Tool] = &[
    Tool {
        names: &[
            "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "busybox", "su", "runuser", "script",
            "flock",
        ],
        flags: SHELL,
        words: &[],
    },
    Tool { names: &["ssh", "watch", "eval", "tmux", "parallel"], flags: &[], words: &[("", Takes::Script)] },
    Tool {
        names: &["curl"],
        flags: &[
            ("-u", Takes::UserPassword),
            ("--user", Takes::UserPassword),
            ("-U", Takes::UserPassword),
            ("--proxy-user", Takes::UserPassword),
            ("-H", Takes::Header),
            ("--header", Takes::Header),
            ("--proxy-header", Takes::Header),
            ("-x", Takes::Proxy),
            ("--proxy", Takes::Proxy),
            ("--preproxy", Takes::Proxy),
            ("--proxy1.0", Takes::Proxy),
            ("--socks4", Takes::Proxy),
            ("--socks4a", Takes::Proxy),
            ("--socks5", Takes::Proxy),
            ("--socks5-hostname", Takes::Proxy),
            ("-b", Takes::Cookie),
            ("--cookie", Takes::Cookie),
            ("-E", Takes::LastColon),
            ("--cert", Takes::LastColon),
            ("--oauth2-bearer", Takes::Secret),
            ("--proxy-pass", Takes::Secret),
            ("--tlspassword", Takes::Secret),
        ],
        words: &[],
    },
    Tool {
        names: &["wget", "wget2", "aria2c", "websocat", "hey", "grpcurl"],
        flags: &[
            ("--header", Takes::Header),
            ("-H", Takes::Header),
            ("--ftp-passwd", Takes::Secret),
            ("--http-passwd", Takes::Secret),
        ],
        words: &[],
    },
    Tool {
        names: &["http", "https", "xh", "xhs"],
        flags: &[("-a", Takes::UserPassword), ("--auth", Takes::UserPassword)],
        words: &[],
    },
    Tool {
        names: &["ab"],
        flags: &[("-A", Takes::UserPassword), ("-H", Takes::Header), ("-C", Takes::Cookie)],
        words: &[],
    },
    Tool {
        names: &[
            "mysql",
            "mysqldump",
            "mysqladmin",
            "mysqlshow",
            "mysqlimport",
            "mysqlcheck",
            "mysqlbinlog",
            "mariadb",
            "mariadb-dump",
            "mariadb-admin",
            "mariadb-show",
            "mariadb-import",
            "mariadb-check",
            "mycli",
        ],
        flags: &[
            ("-p", Takes::Attached),
            ("--password", Takes::Attached),
            // Long names that are written with one dash begin like a password.
            ("-password", Takes::Attached),
            ("-pager", Takes::Nothing),
            ("-plugin-dir", Takes::Nothing),
            ("-plugin_dir", Takes::Nothing),
            ("-port", Takes::Nothing),
            ("-print-defaults", Takes::Nothing),
            ("-prompt", Takes::Nothing),
            ("-protocol", Takes::Nothing),
        ],
        words: &[],
    },
    Tool {
        names: &[
            "sshpass",
            "mongo",
            "mongosh",
            "mongodump",
            "mongorestore",
            "mongoexport",
            "mongoimport",
            "twine",
            "rabbitmqadmin",
            "useradd",
            "usermod",
        ],
        flags: &[("-p", Takes::Secret)],
        words: &[],
    },
    Tool {
        names: &["redis-cli", "redis-benchmark", "valkey-cli"],
        flags: &[("-a", Takes::Secret)],
        words: &[],
    },
    Tool {
        names: &[
            "docker", "podman", "nerdctl", "buildah", "skopeo", "helm", "oras", "crane", "regctl", "ctr",
            "oc", "az", "cf", "argocd",
        ],
        flags: &[
            // A key's id and file.
            ("--secret", Takes::Nothing),
            ("--creds", Takes::UserPassword),
            ("--src-creds", Takes::UserPassword),
            ("--dest-creds", Takes::UserPassword),
        ],
        words: &[("login", Takes::Login)],
    },
    Tool {
        names: &["openssl"],
        flags: &[
            ("-passin", Takes::PassScheme),
            ("-passout", Takes::PassScheme),
            ("-pass", Takes::PassScheme),
            ("-k", Takes::Secret),
            ("-K", Takes::Secret),
            ("-hmac", Takes::Secret),
            ("-macopt", Takes::LastColon),
        ],
        words: &[],
    },
    Tool {
        names: &["smbclient", "rpcclient", "smbget", "net", "winexe", "smbcacls", "smbmap"],
        flags: &[("-U", Takes::Percent), ("--user", Takes::Percent)],
        words: &[],
    },
    Tool { names: &["lftp", "ncftp"], flags: &[("-u", Takes::Comma), ("--user", Takes::Comma)], words: &[] },
    Tool {
        names: &[
            "sqlcmd",
            "bcp",
            "isql",
            "tsql",
            "mosquitto_pub",
            "mosquitto_sub",
            "ipmitool",
            "zip",
            "unzip",
        ],
        flags: &[("-P", Takes::Secret)],
        words: &[],
    },
    Tool {
        names: &[
            "ldapsearch",
            "ldapadd",
            "ldapmodify",
            "ldapdelete",
            "ldapwhoami",
            "ldappasswd",
            "ldapcompare",
        ],
        flags: &[("-w", Takes::Secret), ("-s", Takes::Nothing)],
        words: &[],
    },
    Tool {
        names: &["snmpget", "snmpwalk", "snmpset", "snmpbulkwalk", "snmptrap"],
        flags: &[("-c", Takes::Secret), ("-A", Takes::Secret), ("-X", Takes::Secret)],
        words: &[],
    },
    Tool {
        names: &["7z", "7za", "7zr", "7zz", "rar", "unrar"],
        flags: &[("-p", Takes::Attached), ("-hp", Takes::Attached)],
        words: &[],
    },
    Tool { names: &["ssh-keygen"], flags: &[("-N", Takes::Secret), ("-P", Takes::Secret)], words: &[] },
    Tool { names: &["xfreerdp", "wlfreerdp", "rdesktop"], flags: &[("-p", Takes::Secret)], words: &[] },
    Tool { names: &["cargo", "vault"], flags: &[], words: &[("login", Takes::Secret)] },
    Tool { names: &["rclone"], flags: &[], words: &[("obscure", Takes::Secret)] },
    Tool {
        names: &["gh"],
        flags: &[("-H", Takes::Header), ("--header", Takes::Header), ("--body", Takes::Nothing)],
        words: &[("secret", Takes::Body)],
    },
    Tool {
        names: &["nmcli"],
        flags: &[],
        words: &[("password", Takes::Secret), ("wifi-sec.psk", Takes::Secret)],
    },
    Tool { names: &["kubectl"], flags: &[("--from-literal", Takes::Literal)], words: &[] },
    Tool { names: &["doctl"], flags: &[("-t", Takes::Secret)], words: &[] },
    Tool {
        names: &["putty", "plink", "pscp", "psftp", "puttytel", "kitty", "klink", "kscp"],
        flags: &[("-pw", Takes::Secret)],
        words: &[],
    },
    Tool {
        names: &["htpasswd"],
        flags: &[("-C", Takes::Nothing), ("-r", Takes::Nothing)],
        words: &[("", Takes::Operands)],
    },
    Tool {
        names: &["jq", "gojq", "jaq"],
        flags: &[("--arg", Takes::Name), ("--argjson", Takes::Name)],
        words: &[("", Takes::Code)],
    },
    Tool {
        names: &["xsltproc"],
        flags: &[("--param", Takes::Name), ("--stringparam", Takes::Name)],
        words: &[],
    },
    Tool { names: &["awk", "gawk", "mawk", "nawk"], flags: &[], words: &[("", Takes::Code)] },
    // Which of several passes.
    Tool {
        names: &["ffmpeg", "x264", "x265", "vpxenc", "aomenc"],
        flags: &[("-pass", Takes::Nothing), ("--pass", Takes::Nothing)],
        words: &[],
    },
    // Names of crates are no names of secrets.
    Tool {
        names: &["rustc", "rustdoc", "clippy-driver"],
        flags: &[("--extern", Takes::Nothing)],
        words: &[],
    },
];
