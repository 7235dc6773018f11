//! Drives one WebSocket server with one thread, counts what comes back, prints one line of JSON.
//!
//! It has to cost less than any server it measures: frames are masked once and sent again and
//! again, what arrives is compared in place, and a connection costs one `read` and one `write` for
//! all that is ready on it.
//!
//! Exit codes: 0 with the line on standard output, also when deliveries were lost (the line says
//! so); 1 with a sentence on standard error when no measurement was possible; 2 for wrong arguments.

mod drive;
mod frame;
mod latency;
mod peer;
mod plan;
mod report;
mod usage;

use std::process::ExitCode;

fn main() -> ExitCode {
    let plan = match plan::Plan::parse(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(sentence) => {
            eprintln!("{sentence}\n{}", plan::USAGE);
            return ExitCode::from(2);
        }
    };
    match usage::allow_many_files().and_then(|()| drive::run(&plan)) {
        Ok(mut outcome) => {
            println!("{}", report::json(&plan, &mut outcome));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
