//! Startup code of a Cortex-M: vector table, and the initialisation of memory and FPU before `main`.

use core::ptr;

use crate::main;

unsafe extern "C" {
    // Symbols of sections.x.
    static mut data_start: u32;
    static mut data_end: u32;
    static data_load: u32;
    static mut bss_start: u32;
    static mut bss_end: u32;
}

/// Vector table after the initial stack pointer: reset, NMI, hard fault.
#[unsafe(link_section = ".vectors")]
#[used]
static VECTORS: [unsafe extern "C" fn() -> !; 3] = [reset, fault, fault];

unsafe extern "C" fn fault() -> ! {
    crate::semihosting::print("fault\n");
    crate::semihosting::exit(false)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn reset() -> ! {
    // SAFETY: nothing else runs yet; the bounds are those of the linker, and the register is that of the core.
    unsafe {
        let (data, bss) = (&raw mut data_start, &raw mut bss_start);
        let words = (&raw const data_end).offset_from(data) as usize;
        ptr::copy_nonoverlapping(&raw const data_load, data, words);
        ptr::write_bytes(bss, 0, (&raw const bss_end).offset_from(bss) as usize);
        if cfg!(target_abi = "eabihf") {
            // Full access to the FPU: coprocessors 10 and 11 of the CPACR.
            let cpacr = 0xe000_ed88 as *mut u32;
            cpacr.write_volatile(cpacr.read_volatile() | 0xf << 20);
            core::arch::asm!("dsb", "isb", options(nostack, preserves_flags));
        }
    }
    main()
}
