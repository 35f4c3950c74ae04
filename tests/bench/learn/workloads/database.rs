//! A sqlite job: tables made, filled, asked, exported; journals and write-ahead logs.

use super::{Project, Workload};
use crate::learn::attacks::Language;

pub const WORKLOAD: Workload = Workload {
    name: "sqlite",
    title: "sqlite job, python3",
    programs: &["/usr/bin/python3"],
    language: Language::Python,
    prepare,
};

fn prepare(project: &mut Project<'_>) {
    let name = project.random.word();
    let count = project.random.between(1, 4);
    let tables = project.random.words(count);
    let journal = *project.random.pick(&["delete", "wal", "truncate"]);
    let rows = project.random.between(50, 2000);
    let mut steps: Vec<String> = Vec::new();
    for table in &tables {
        let index = if project.random.chance(50) {
            format!("db.execute('CREATE INDEX {table}_by ON {table} (b)')\n")
        } else {
            String::new()
        };
        steps.push(format!(
            "db.execute('CREATE TABLE {table} (a INTEGER PRIMARY KEY, b TEXT)')\n\
             db.executemany('INSERT INTO {table} (b) VALUES (?)', [(str(n * 7 % 13),) for n in range({rows})])\n\
             {index}db.commit()\n"
        ));
    }
    project.random.shuffle(&mut steps);
    let table = tables[0];
    steps.push(format!(
        "os.makedirs('reports', exist_ok=True)\nwith open('reports/{table}-{}.csv', 'w', newline='') as out:\n    \
         csv.writer(out).writerows(db.execute('SELECT b, count(*) FROM {table} GROUP BY b ORDER BY b'))\n",
        project.random.between(1, 365)
    ));
    if project.random.chance(70) {
        steps.push("db.execute('VACUUM')\n".to_owned());
    }
    if project.random.chance(60) {
        steps.push(format!(
            "with sqlite3.connect('data/{name}.backup') as copy:\n    db.backup(copy)\ncopy.close()\n"
        ));
    }
    if let Some(calls) = project.attack.clone() {
        project.write("helpers.py", &format!("{}\n{calls}", Language::Python.prelude()));
        project.among(&mut steps, "import helpers\n".to_owned());
    }
    project.write(
        "job.py",
        &format!(
            "import csv, os, sqlite3\nos.makedirs('data', exist_ok=True)\ndb = sqlite3.connect('data/{name}.db')\n\
             db.execute('PRAGMA journal_mode = {journal}')\n{}db.close()\n",
            steps.concat()
        ),
    );
    let mut job = vec!["python3 job.py".to_owned()];
    if project.random.chance(60) {
        job.push(format!("python3 -c \"import sqlite3; print(sqlite3.connect('data/{name}.db').execute('PRAGMA integrity_check').fetchone())\""));
    }
    project.job(&job);
}
