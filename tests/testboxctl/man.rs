//! The pages for man(1).

use crate::Lab;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn man_pages_of_commands_and_chapters_render_without_warnings() {
    let lab = Lab::empty();
    let run =
        lab.run(&["man", "pages"]).expect(0, &["pages/man1/testboxctl.1", "pages/man7/testbox-setup.7"]);
    let names: Vec<&str> = run.out.lines().collect();
    for page in ["man1/testboxctl-arm.1", "man1/testboxctl-image-create.1", "man7/testbox-failures.7"] {
        assert!(names.contains(&format!("pages/{page}").as_str()), "{page}: {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("-man.") || name.contains("-help-")), "{names:?}");
    for name in &names {
        let man = Command::new("man")
            .args(["--warnings", "--encoding=UTF-8", "--local-file"])
            .arg(lab.path(name))
            .envs([("LC_ALL", "C.UTF-8"), ("MANWIDTH", "80")])
            .output()
            .unwrap_or_else(|e| panic!("man: {e} (scripts/packages test)"));
        let said = String::from_utf8_lossy(&man.stderr);
        assert!(man.status.success() && said.is_empty(), "{name}: {said}");
        let text = String::from_utf8_lossy(&man.stdout);
        assert!(text.contains("NAME") && text.lines().count() > 10, "{name}: {text}");
        assert_eq!(fs::metadata(lab.path(name)).unwrap().permissions().mode() & 0o444, 0o444, "{name}");
    }
    let shown = String::from_utf8(fs::read(lab.path("pages/man7/testbox-failures.7")).unwrap()).unwrap();
    assert!(shown.contains("ambiguous") && shown.contains(".TH TESTBOX\\-FAILURES 7"), "{shown}");
}

#[test]
fn man_replaces_its_own_pages_and_says_where_it_cannot() {
    let lab = Lab::empty();
    lab.write("pages/man7/testbox-setup.7", b"of an earlier version");
    lab.write("pages/man7/other.7", b"somebody else's");
    lab.run(&["man", "pages"]).expect(0, &[]);
    assert!(lab.read("pages/man7/testbox-setup.7").starts_with(b".TH"));
    assert_eq!(lab.read("pages/man7/other.7"), b"somebody else's");
    lab.write("file", b"");
    lab.run(&["man", "file"]).expect(1, &["file: cannot make this folder"]);
}
