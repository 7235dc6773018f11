//! Drives one WebSocket server, or two that relay to each other, with one thread, counts what comes
//! back, prints one line of JSON.
//!
//! It has to cost less than any server it measures: frames are masked once and sent again and
//! again, what arrives is compared in place, and a connection costs one `read` and one `write` for
//! all that is ready on it.
//!
//! Exit codes: 0 with the line on standard output, also when deliveries were lost (the line says
//! so); 1 with a sentence on standard error when no measurement was possible; 2 for wrong arguments.

mod block;
mod churn;
mod drive;
mod frame;
mod http;
mod idle;
mod last;
mod latency;
mod memory;
mod pace;
mod peer;
mod plan;
mod rate;
mod relay;
mod report;
mod usage;

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let plan = match plan::Plan::parse(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(sentence) => {
            eprintln!("{sentence}\n{}", plan::USAGE);
            return ExitCode::from(2);
        }
    };
    match usage::allow_many_files().and_then(|()| measure(&plan)) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(plan: &plan::Plan) -> io::Result<String> {
    if plan.idle {
        return Ok(report::idle_json(plan, &idle::run(plan)?));
    }
    if plan.churn {
        return Ok(report::json(plan, &mut churn::run(plan)?));
    }
    if let Some(expect) = &plan.expect {
        return Ok(report::json(plan, &mut http::run(plan, expect)?));
    }
    if let Some(open) = &plan.open {
        return Ok(report::rate_json(plan, open, &mut rate::run(plan, open)?));
    }
    if let Some(shot) = &plan.last {
        return Ok(report::last_json(plan, &mut last::run(plan, shot)?));
    }
    Ok(match &plan.relay {
        Some(relay) => report::relay_json(plan, &mut relay::run(plan, relay)?),
        None => report::json(plan, &mut drive::run(plan)?),
    })
}
