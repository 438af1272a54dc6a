//! What of a job is signed.

use crate::job::Action;
use crate::job::Options;
use crate::types::JobId;
use std::net::Ipv4Addr;

/// The text whose signature makes a job a signed one: action, machine, job id, and every testbox word that is in force,
/// each on a line of its own. The words come in one order and one spelling, those of [`Options::words`].
///
/// All words are bound, and not only those that choose a disk: that is easy to say and leaves nothing to find.
pub fn job_text(machine: Ipv4Addr, action: Action, job: &JobId, options: &Options) -> String {
    let head = [
        "testbox-job-v1".into(),
        format!("machine {machine}"),
        format!("action {action}"),
        format!("job {job}"),
    ];
    head.into_iter().chain(options.words()).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Cmdline;
    use crate::signature::{JOB_NAMESPACE, SET_NAMESPACE, SecretKey, Trust, Verdict};
    use crate::types::JobSignature;

    fn key(n: u8) -> SecretKey {
        SecretKey::new(&[n; 32], &format!("admin {n}")).unwrap()
    }

    fn trust(keys: &[&SecretKey]) -> Trust {
        let text: String = keys.iter().map(|key| key.public().line() + "\n").collect();
        Trust::new([("lab.pub", text.as_bytes())], true)
    }

    /// Whatever changes in the words of a job, it is another job.
    #[test]
    fn a_signed_job_is_one_machine_one_id_and_exactly_these_words() {
        let admin = key(1);
        let hash = "ab".repeat(32);
        let line =
            format!("testbox.action=restore testbox.job=j testbox.set={hash} testbox.map=sda:serial=A");
        let text = |line: &str, ip: [u8; 4]| {
            let c = Cmdline::parse(line);
            assert_eq!(c.problems, [""; 0], "{line}");
            job_text(ip.into(), c.action.unwrap(), &c.job.unwrap(), &c.options)
        };
        let signed = text(&line, [10, 0, 0, 1]);
        assert_eq!(
            signed,
            format!(
                "testbox-job-v1\nmachine 10.0.0.1\naction restore\njob j\ntestbox.set={hash}\ntestbox.map=sda:serial=A\n"
            )
        );
        let signature = JobSignature(admin.sign(JOB_NAMESPACE, signed.as_bytes()).signature);
        let of = |text: &str| trust(&[&key(9), &admin]).of_job(text, Some(&signature));
        assert_eq!(of(&signed), Verdict::By(admin.public().to_string()));
        assert!(of(&text(&line, [10, 0, 0, 2])).why_not().is_some());
        for (from, to) in [
            ("restore", "verify"),
            ("job=j", "job=k"),
            ("=ab", "=bb"),
            ("serial=A", "serial=B"),
            ("serial=A", "serial=A testbox.free=zero"),
            ("serial=A", "serial=A testbox.delta=never"),
            ("serial=A", "serial=A testbox.degraded=restore"),
            ("serial=A", "serial=A testbox.disks=sda"),
            ("serial=A", "serial=A testbox.backup=10.9.9.9:/b"),
            ("testbox.map=sda:serial=A", ""),
        ] {
            assert!(of(&text(&line.replacen(from, to, 1), [10, 0, 0, 1])).why_not().is_some(), "{from} {to}");
        }
        assert_eq!(trust(&[&admin]).of_job(&signed, None), Verdict::Unsigned);
        assert!(trust(&[&key(9)]).of_job(&signed, Some(&signature)).why_not().is_some());
        // Nor is the signature of a set one of a job with the same text.
        let set = JobSignature(admin.sign(SET_NAMESPACE, signed.as_bytes()).signature);
        assert!(trust(&[&admin]).of_job(&signed, Some(&set)).why_not().is_some());
    }
}
