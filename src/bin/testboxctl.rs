//! What the admin of a lab runs. See the library's `ctl`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    testbox::ctl::main(std::env::args_os())
}
