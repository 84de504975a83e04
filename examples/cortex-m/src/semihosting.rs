//! Text output and exit code by semihosting, through a debugger or emulator (ARM, "Semihosting for AArch32 and
//! AArch64").

use core::arch::asm;

const WRITE0: u32 = 0x04;
const EXIT: u32 = 0x18;
/// Reason codes of EXIT.
const APPLICATION_EXIT: u32 = 0x2_0026;
const RUN_TIME_ERROR: u32 = 0x2_0023;

fn call(operation: u32, argument: u32) {
    // SAFETY: both operations here only read what the argument points to, if it is a pointer.
    unsafe {
        asm!("bkpt 0xab", inout("r0") operation => _, in("r1") argument, options(nostack, readonly));
    }
}

/// Prints a text in pieces, each copied to a buffer that ends with NUL.
pub fn print(text: &str) {
    let mut piece = [0u8; 32];
    for bytes in text.as_bytes().chunks(piece.len() - 1) {
        for (to, from) in piece.iter_mut().zip(bytes) {
            *to = *from;
        }
        if let Some(end) = piece.get_mut(bytes.len()) {
            *end = 0;
        }
        call(WRITE0, piece.as_ptr() as u32);
    }
}

/// Prints eight hexadecimal digits.
pub fn print_hex(number: u32) {
    for digit in (0..8).rev() {
        let digit = (number >> (4 * digit)) as usize & 15;
        print("0123456789abcdef".get(digit..=digit).unwrap_or("?"));
    }
}

/// Prints a number in decimal.
pub fn print_number(number: usize) {
    if number >= 10 {
        print_number(number / 10);
    }
    let digit = number % 10;
    print("0123456789".get(digit..=digit).unwrap_or("?"));
}

/// Ends the program, and with it the emulation.
pub fn exit(success: bool) -> ! {
    call(EXIT, if success { APPLICATION_EXIT } else { RUN_TIME_ERROR });
    loop {}
}
