//! ssh-keygen: keys of its own in its own workspace, signatures, fingerprints. The person's keys stay closed.

use super::{Project, Workload};
use crate::learn::attacks::Language;

pub const WORKLOAD: Workload = Workload {
    name: "keys",
    title: "ssh-keygen, own keys",
    programs: &["ssh-keygen", "python3"],
    language: Language::Shell,
    prepare,
};

fn prepare(project: &mut Project<'_>) {
    let count = project.random.between(1, 3);
    let names = project.random.words(count);
    let mut steps = vec!["mkdir -p deploy".to_owned()];
    for name in &names {
        let kind = *project.random.pick(&["ed25519", "ecdsa"]);
        steps.push(format!("ssh-keygen -q -t {kind} -N '' -C {name}@deploy -f deploy/{name}"));
        if project.random.chance(70) {
            steps.push(format!("ssh-keygen -l -f deploy/{name}.pub >/dev/null"));
        }
        if project.random.chance(60) {
            steps.push(format!("ssh-keygen -y -f deploy/{name} > deploy/{name}.again"));
        }
    }
    let name = names[0];
    let document = format!("release-{}.{}.txt", project.random.between(0, 9), project.random.between(0, 99));
    steps.push(format!(
        "echo {} > {document}\nssh-keygen -q -Y sign -f deploy/{name} -n file {document} 2>/dev/null",
        project.random.hex(12)
    ));
    steps.push(format!(
        "echo \"{name} $(cut -d' ' -f1,2 deploy/{name}.pub)\" > signers\n\
         ssh-keygen -q -Y verify -f signers -I {name} -n file -s {document}.sig < {document} >/dev/null"
    ));
    if project.random.chance(60) {
        steps.push("rm -f deploy/*.again".to_owned());
    }
    if let Some(calls) = project.attack.clone() {
        let text = format!("(\n{}\n{calls}\n) || true", Language::Shell.prelude());
        project.among(&mut steps, text);
    }
    project.job(&steps);
}
