//! The beginning of scripts in Python that make attempts.

/// A script in which `attempt(NAME, ACT)` makes one, and prints its name and 0 or the errno's name.
#[macro_export]
macro_rules! attempts {
    ($script:literal) => {
        concat!(
            r#"
import errno
def attempt(name, act):
    try:
        act()
        print(name, 0)
    except OSError as error:
        print(name, errno.errorcode[error.errno])
"#,
            $script
        )
    };
}
