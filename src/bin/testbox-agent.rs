//! The agent in the initramfs: performs the action of this boot. See the library's `engine`.
//!
//! Exit codes for the boot scripts: 0 goes on with the boot, 10 and 11 ask for a shell, 2 is wrong usage. In every
//! other case the agent ends the machine itself and never returns.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use testbox::agent::bootnet::{self, BootNetPlan};
use testbox::agent::console::Console;
use testbox::agent::logging::AgentLog;
use testbox::agent::world::{RealWorld, World};
use testbox::agent::{Ending, Journal, Mode, network_report, run};
use testbox::job::RebootMode;
use testbox::sys::Reboot;

const RUN_DIR: &str = "/run/testbox";

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mode = match words[..] {
        ["nfs-root", root] => Mode::NfsRoot(root.into()),
        ["agent-only"] => Mode::AgentOnly,
        ["--version"] => {
            println!("testbox-agent {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        ["boot-network"] => return boot_network(),
        ["network-report"] => {
            let report = network_report(&RealWorld::new(Path::new(RUN_DIR)));
            Console::open(Path::new("/sys"), Path::new("/dev")).lines(&report.lines());
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!(
                "usage: testbox-agent nfs-root <mount point> | agent-only | boot-network | network-report | --version"
            );
            return ExitCode::from(2);
        }
    };
    end_on_lonely_panic();
    let world = RealWorld::new(Path::new(RUN_DIR));
    let console = Arc::new(Console::open(Path::new("/sys"), Path::new("/dev")));
    let log = AgentLog::new(console.clone(), world.system());
    log.install();
    let journal = Journal::new(log, console);
    match run(&world, &journal, &mode) {
        Ending::Continue => ExitCode::SUCCESS,
        Ending::RescueShell => ExitCode::from(10),
        Ending::ErrorShell => ExitCode::from(11),
        Ending::Machine(how) => end_machine(&world, &journal, how),
    }
}

/// What the boot script evaluates before it brings the network up; 13 where it must wait for a link, 12 and a sentence
/// where it must not go on.
fn boot_network() -> ExitCode {
    let world = RealWorld::new(Path::new(RUN_DIR));
    match bootnet::plan(&world.facts().cmdline, &world.links()) {
        BootNetPlan::Ready(assignments) => {
            print!("{assignments}");
            ExitCode::SUCCESS
        }
        BootNetPlan::Wait => ExitCode::from(13),
        BootNetPlan::Refused(why) => {
            println!("{why}");
            ExitCode::from(12)
        }
    }
}

/// A panic in the main thread or in one of an imaging pipeline ends the action as an internal error. Any other thread, a
/// watchdog or the one that renews the lease, must not be missing unnoticed: then the agent ends, and the boot script
/// reboots.
fn end_on_lonely_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        let thread = std::thread::current();
        if !thread.name().is_some_and(|name| name == "main" || name.starts_with("image-")) {
            std::process::abort();
        }
    }));
}

/// Ends the machine. Where the kernel refuses, and where holding is asked for, the agent stays: the boot must not go
/// on by accident.
fn end_machine(world: &dyn World, journal: &Journal, how: RebootMode) -> ! {
    let how = match how {
        RebootMode::Reboot => Some(Reboot::Restart),
        RebootMode::PowerOff => Some(Reboot::PowerOff),
        RebootMode::Halt => Some(Reboot::Halt),
        RebootMode::Hold => None,
    };
    if let Some(how) = how
        && let Err(e) = world.system().reboot(how)
    {
        journal.warn(&format!("the kernel refuses to end the machine ({how:?}): {e}; holding"));
    }
    loop {
        world.system().sleep(Duration::from_secs(3600));
    }
}
