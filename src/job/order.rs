//! What this boot is to do, and who says so: the kernel command line, or else a file on the boot server.

use crate::failure::{Failure, Kind};
use crate::job::Action;
use crate::job::FoundJob;
use crate::job::job_text;
use crate::job::{Cmdline, Options, Settings};
use crate::signature::{Trust, Verdict};
use crate::types::JobId;
use std::net::Ipv4Addr;

/// Where the words came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The kernel command line, so the file that PXELINUX loaded.
    KernelCommandLine,
    /// A file that the agent fetched by TFTP.
    Tftp(FoundJob),
}

/// The words of this boot, as they stand: they may be wrong.
#[derive(Clone, Debug)]
pub struct Order {
    /// Who gave them.
    pub origin: Origin,
    /// The words of the origin.
    pub words: Cmdline,
    /// Its options, completed by those of the kernel command line.
    pub options: Options,
}

/// An order that can be carried out.
#[derive(Clone, Debug)]
pub struct Job {
    /// What to do.
    pub action: Action,
    /// Id of the arming; absent where somebody wrote the file by hand without one.
    pub id: Option<JobId>,
    /// Everything else.
    pub options: Options,
    /// The options that have defaults.
    pub settings: Settings,
}

impl Order {
    /// The order on the kernel command line, if there is one.
    ///
    /// A command line with a wrong testbox word is an order too, a wrong one: asking the boot server instead would
    /// do something that nobody asked for.
    pub fn from_kernel(kernel: &Cmdline) -> Option<Order> {
        let is_order = kernel.action.is_some() || !kernel.problems.is_empty();
        is_order.then(|| Order {
            origin: Origin::KernelCommandLine,
            words: kernel.clone(),
            options: kernel.options.clone(),
        })
    }

    /// The order in a file from the boot server, completed by the kernel's words.
    pub fn from_tftp(found: FoundJob, kernel: &Cmdline) -> Order {
        let words = found.cmdline();
        let options = words.options.clone().or(&kernel.options);
        Order { origin: Origin::Tftp(found), words, options }
    }

    /// Who signed the order for this machine: all words that are in force, wherever they came from.
    pub fn signed(&self, machine: Ipv4Addr, trust: &Trust) -> Verdict {
        let signature = self.words.signature.as_ref();
        match (self.words.action, &self.words.job) {
            (Some(action), Some(id)) => {
                trust.of_job(&job_text(machine, action, id, &self.options), signature)
            }
            _ if signature.is_some() => {
                Verdict::Not("only a job with one action and an id can be signed".into())
            }
            _ => Verdict::Unsigned,
        }
    }

    /// Why the order must not be carried out by a machine whose initramfs demands signatures.
    pub fn unsigned(&self, signed: &Verdict) -> Option<Failure> {
        let action = self.words.action.filter(|action| action.needs_signature())?;
        let why = match signed.why_not() {
            Some(why) => why,
            // Without it an older set, signed once, would do.
            None if action == Action::Restore && self.options.set.is_none() => {
                "names no set (testbox.set)".into()
            }
            None => return None,
        };
        Some(Failure::new(
            Kind::JobSignature,
            format!("this initramfs takes '{action}' only as a signed job, and this one {why}"),
            "no disk was touched. If the job is yours, arm the machine again with testboxctl arm --sign-key; else look \
             who writes to the TFTP share.",
        ))
    }

    /// Checks the order: one known action, no unknown word, and from a file that may order it.
    ///
    /// # Errors
    /// [`Kind::BadWords`], [`Kind::NoAction`]; nothing was done then.
    pub fn job(&self) -> Result<Job, Failure> {
        let advice =
            "arm the machine again with testboxctl arm; 'testboxctl arm --help' lists actions and options.";
        if !self.words.problems.is_empty() {
            return Err(Failure::new(Kind::BadWords, self.words.problems.join("; "), advice));
        }
        let Some(action) = self.words.action else {
            return Err(Failure::new(Kind::NoAction, "no action is given", advice));
        };
        if let Origin::Tftp(FoundJob { path, candidate, .. }) = &self.origin
            && action.is_destructive()
            && !candidate.names_one_machine()
        {
            return Err(Failure::new(
                Kind::BadWords,
                format!("{path} orders '{action}', but is not the file of this one machine"),
                "an action that writes to disks or images is taken only from a file named after the machine's UUID, \
                 MAC or whole address.",
            ));
        }
        if action == Action::Rescue && self.options.expires.is_some() {
            return Err(Failure::new(
                Kind::BadWords,
                "testbox.expires= with rescue: a rescue waits for no server, so nobody could tell it the time",
                "arm the rescue without it, and disarm the machine when it is done.",
            ));
        }
        let settings = self.options.settings();
        Ok(Job { action, id: self.words.job.clone(), options: self.options.clone(), settings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobSource;
    use crate::job::pxe::{Candidate, CandidateKind};

    fn tftp(kind: CandidateKind, words: &str, kernel: &str) -> Order {
        let candidate = Candidate { name: "x".into(), kind };
        let (source, path, bytes) = (JobSource::TestboxCfg, "testbox.cfg/x".into(), words.into());
        Order::from_tftp(FoundJob { source, candidate, path, bytes }, &Cmdline::parse(kernel))
    }

    #[test]
    fn the_kernel_command_line_goes_before_the_boot_server() {
        assert!(Order::from_kernel(&Cmdline::parse("quiet boot=nfs testbox.backup=1.2.3.4:/b")).is_none());
        let order = |line| Order::from_kernel(&Cmdline::parse(line)).unwrap().job();
        assert_eq!(order("testbox.action=restore").unwrap().action, Action::Restore);
        assert_eq!(order("testbox-action-backup").unwrap().action, Action::Backup);
        for wrong in ["testbox.action=format", "testbox.action=backup testbox.tpyo=1", "testbox.tpyo=1"] {
            assert_eq!(order(wrong).unwrap_err().kind, Kind::BadWords, "{wrong}");
        }
    }

    #[test]
    fn a_writing_action_is_taken_only_from_a_file_of_this_machine() {
        use CandidateKind::{Default, HexIp, HexIpPrefix, Mac, Uuid};
        for kind in [Uuid, Mac, HexIp, HexIpPrefix, Default] {
            let one = matches!(kind, Uuid | Mac | HexIp);
            for action in Action::ALL {
                let allowed = tftp(kind, &format!("testbox.action={action}"), "").job().is_ok();
                assert_eq!(allowed, one || !action.is_destructive(), "{kind:?} {action}");
            }
        }
    }

    #[test]
    fn a_file_goes_before_the_kernels_options_which_complete_it() {
        let order = tftp(
            CandidateKind::HexIp,
            "testbox.action=verify\ntestbox.job=j7\ntestbox.keep=3",
            "testbox.keep=9 testbox.error-wait=5 testbox.backup=10.0.0.1:/b",
        );
        let job = order.job().unwrap();
        assert_eq!((job.settings.keep, job.settings.error_wait.as_secs()), (3, 5));
        assert_eq!(job.id.unwrap().as_str(), "j7");
        assert_eq!(job.options.backup.unwrap().path, "/b");
    }
}
