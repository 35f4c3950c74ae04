//! A C project to compile: generated, the same every time.

use std::fmt::Write;
use std::path::Path;

/// Writes a project of `files` source files with a Makefile into `directory`. Every file includes system
/// headers and calls the next one; the program prints a number.
///
/// # Panics
///
/// If the files cannot be written.
pub fn write(directory: &Path, files: usize) {
    let put = |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("a project's file");
    let mut header = "#ifndef PARTS_H\n#define PARTS_H\n#include <stddef.h>\n".to_owned();
    let mut objects = String::new();
    for part in 0..files {
        let _ = writeln!(header, "long part_{part}(const char *text, size_t length);");
        let _ = write!(objects, " part_{part}.o");
        put(&format!("part_{part}.c"), &source(part, files));
    }
    header.push_str("#endif\n");
    put("parts.h", &header);
    put("main.c", MAIN);
    put("Makefile", &MAKEFILE.replace("@OBJECTS@", &objects));
}

fn source(part: usize, files: usize) -> String {
    let next =
        if part + 1 < files { format!("part_{}(text, length)", part + 1) } else { "(long)length".to_owned() };
    PART.replace("@PART@", &part.to_string()).replace("@NEXT@", &next)
}

const MAIN: &str = r#"#include <stdio.h>
#include <string.h>
#include "parts.h"

int main(void) {
    const char *text = "the same every time";
    printf("%ld\n", part_0(text, strlen(text)));
    return 0;
}
"#;

const PART: &str = r#"#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "parts.h"

struct entry_@PART@ { char name[32]; long weight; struct entry_@PART@ *next; };

static long mix_@PART@(const unsigned char *bytes, size_t length) {
    long sum = @PART@;
    for (size_t i = 0; i < length; i++) {
        sum = sum * 31 + (isalpha(bytes[i]) ? toupper(bytes[i]) : bytes[i]);
        sum ^= sum >> 7;
    }
    return sum;
}

static struct entry_@PART@ *insert_@PART@(struct entry_@PART@ *list, const char *name, long weight) {
    struct entry_@PART@ **at = &list;
    while (*at && (*at)->weight < weight) at = &(*at)->next;
    struct entry_@PART@ *made = calloc(1, sizeof *made);
    if (!made) return list;
    snprintf(made->name, sizeof made->name, "%s-%ld", name, weight);
    made->weight = weight;
    made->next = *at;
    *at = made;
    return list;
}

long part_@PART@(const char *text, size_t length) {
    struct entry_@PART@ *list = NULL;
    long total = 0;
    for (size_t i = 0; i < length; i++)
        list = insert_@PART@(list, text, mix_@PART@((const unsigned char *)text + i, length - i) % 997);
    while (list) {
        struct entry_@PART@ *next = list->next;
        total += (long)strlen(list->name) * list->weight;
        free(list);
        list = next;
    }
    return total % 65521 + @NEXT@;
}
"#;

const MAKEFILE: &str = "CC = gcc
CFLAGS = -O2 -Wall
OBJECTS = main.o@OBJECTS@

program: $(OBJECTS)
\t$(CC) -o $@ $(OBJECTS)

%.o: %.c parts.h
\t$(CC) $(CFLAGS) -c -o $@ $<

clean:
\trm -f program $(OBJECTS)

.PHONY: clean
";
