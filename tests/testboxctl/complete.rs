//! What a real bash completes, by the script that the package brings.

use super::Lab;
use std::fs;
use std::process::Command;

const MACHINES: &str = r#"
[tb1]
address = "10.42.1.20"
mac = "52:54:00:12:34:56"
groups = ["rack3"]

[tb2]
address = "10.42.1.21"
mac = "52:54:00:12:34:57"
groups = ["rack3", "slow"]
"#;

/// What bash offers behind these words, of which the last is not finished.
fn offered(lab: &Lab, line: &str) -> Vec<String> {
    let script = lab.run(&["completions", "bash"]).expect(0, &[]).out;
    lab.write("completion", script.as_bytes());
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_testboxctl")).parent().unwrap();
    // What readline does at the tab.
    let bash = r#"
        . ./completion
        read -r -a COMP_WORDS <<<"$1"
        [ "${1% }" = "$1" ] || COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
        function=$(complete -p testboxctl) && function=${function##*-F } && function=${function%% *}
        "$function" testboxctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .current_dir(lab.dir.path())
        .env("PATH", path)
        .args(["-c", bash, "bash", line])
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut words: Vec<_> =
        String::from_utf8(output.stdout).unwrap().lines().map(|l| l.trim().to_owned()).collect();
    words.retain(|word| !word.is_empty());
    words.sort();
    words
}

#[test]
fn a_real_bash_completes_machines_groups_and_actions() {
    let lab = Lab::empty();
    lab.write("machines.toml", MACHINES.as_bytes());
    lab.write("settings.toml", b"machines = \"machines.toml\"\n");
    for (line, expected) in [
        ("arm t", "tb1 tb2"),
        ("arm tb1 r", "rack3 refresh-info rescue restore"),
        ("arm tb1 restor", "restore"),
        ("disarm ", "rack3 slow tb1 tb2"),
        ("status sl", "slow"),
        ("sign tb", "tb1 tb2"),
        ("run tb", "tb1 tb2"),
        ("run tb1 ver", "verify"),
        ("history sl", "slow"),
        ("stat", "status"),
        ("arm --expi", "--expires"),
        ("arm --bad-s", "--bad-sectors"),
        ("machines l", "learn list"),
        ("image mount tb", "tb1 tb2"),
        ("image export --format ra", "raw"),
        ("image import --machine tb", "tb1 tb2"),
    ] {
        let offered: Vec<String> = offered(&lab, &format!("testboxctl --config settings.toml {line}"));
        let offered: Vec<&str> = offered.iter().map(|word| word.split(':').next().unwrap()).collect();
        let wanted: Vec<&str> = expected.split(' ').collect();
        let names = |word: &&&str| !line.ends_with(' ') || !word.starts_with('-');
        assert_eq!(offered.iter().filter(names).copied().collect::<Vec<_>>(), wanted, "{line}");
    }
    assert_eq!(offered(&lab, "testboxctl arm --machines machines.toml tb"), ["tb1", "tb2"]);
    // What is wrong in the file is for the command to say.
    fs::write(lab.path("machines.toml"), "[tb1").unwrap();
    assert_eq!(offered(&lab, "testboxctl --config settings.toml disarm tb"), [""; 0]);
}
