//! Trains on a Cortex-M4F, without an allocator: `cargo firmware`.
#![no_std]
#![no_main]

use cortex_m::peripheral::{SYST, syst::SystClkSource};
use cortex_m::singleton;
use cortex_m_rt::{STACK_PAINT_VALUE, entry, heap_start};
use cortex_m_semihosting::{debug, hio, hprintln};
use panic_halt as _;
use rwwce::Backend;
use rwwce_last_layer::{Memory, report};

/// Start value of the timer, which counts down.
const RELOAD: u32 = 0xff_ffff;
/// For the emulator, where an instruction takes 1 ns and the timer runs at 25 MHz. On a chip a tick is a cycle: set 1
/// there.
const INSTRUCTIONS_A_TICK: u32 = 40;

#[entry]
fn main() -> ! {
    let ended = run();
    debug::exit(if ended.is_some() { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {}
}

fn run() -> Option<()> {
    let mut timer = cortex_m::Peripherals::take()?.SYST;
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(RELOAD);
    timer.clear_current();
    timer.enable_counter();
    let clock = || {
        let ticks = RELOAD - SYST::get_current();
        timer.clear_current();
        Some(ticks * INSTRUCTIONS_A_TICK)
    };
    let memory: &mut Memory = singleton!(: Memory = Memory::default())?;
    hprintln!("{}", Backend::active());
    report(&mut hio::hstdout().ok()?, memory, Backend::active(), clock).ok()?;
    hprintln!("{} bytes of memory, {} of stack", size_of::<Memory>(), used_stack());
    Some(())
}

/// Bytes of stack used, from the lowest word that no longer has the pattern painted by the startup code.
fn used_stack() -> usize {
    unsafe extern "C" {
        static _stack_start: u32;
    }
    let (mut word, top) = (heap_start().cast_const(), &raw const _stack_start);
    // SAFETY: all words between static memory and the start of the stack are RAM of this program.
    while word < top && unsafe { word.read_volatile() } == STACK_PAINT_VALUE {
        word = word.wrapping_add(1);
    }
    top as usize - word as usize
}
