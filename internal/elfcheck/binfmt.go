package elfcheck

import (
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
)

// Emulated lists the architectures that binfmt_misc has interpreters for, by the texts of the entries in /proc/sys/fs/binfmt_misc (Linux,
// Documentation/admin-guide/binfmt-misc.rst): the magic of each begins with an ELF header, whose machine is at 18.
func Emulated(entries []string) (out []string) {
	const machineAt = 18
	for _, e := range entries {
		lines := strings.Split(e, "\n")
		if lines[0] != "enabled" || slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "offset ") && l != "offset 0" }) {
			continue
		}
		for _, l := range lines {
			digits, ok := strings.CutPrefix(l, "magic ")
			b, err := hex.DecodeString(digits)
			if !ok || err != nil || len(b) < machineAt+2 || string(b[:4]) != elf.ELFMAG {
				continue
			}
			order := binary.ByteOrder(binary.LittleEndian)
			if elf.Data(b[elf.EI_DATA]) == elf.ELFDATA2MSB {
				order = binary.BigEndian
			}
			arch := machines[elf.Machine(order.Uint16(b[machineAt:]))][elf.Class(b[elf.EI_CLASS])]
			if arch == "ppc64" && order == binary.LittleEndian {
				arch = "ppc64le"
			}
			if arch != "" && !slices.Contains(out, arch) {
				out = append(out, arch)
			}
		}
	}
	slices.Sort(out)
	return out
}
