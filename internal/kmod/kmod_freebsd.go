package kmod

import (
	"context"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/host"
)

// Host is the kernel that runs here.
func Host(allowed bool) Kernel { return Kernel{Allowed: allowed, Has: has, Load: load} }

// has asks for a file, as of a module that was loaded, and for a module, which may be a part of the kernel: kldfind(2), modfind(2). linux64.ko
// holds no module of its own name.
func has(name string) bool {
	for call, text := range map[uintptr]string{unix.SYS_KLDFIND: name + ".ko", unix.SYS_MODFIND: name} {
		p, err := unix.BytePtrFromString(text)
		if err != nil {
			return false
		}
		if _, _, errno := unix.Syscall(call, uintptr(unsafe.Pointer(p)), 0, 0); errno == 0 {
			return true
		}
	}
	return false
}

// load runs kldload(8), which finds the file in kern.module_path. Another one may have loaded it meanwhile (-n).
func load(ctx context.Context, name string) error {
	_, err := host.Run(ctx, "kldload", "-n", name)
	return err
}
