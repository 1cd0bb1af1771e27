package elfcheck

import (
	"bytes"
	"debug/elf"
	"encoding/binary"

	"golang.org/x/arch/x86/x86asm"
)

// scan finds the system calls that a file's own instructions make with a number that stands beside them: mov $n,%eax … syscall on amd64,
// mov x8,#n … svc #0 on arm64, with no call, jump or return in between. The C library's wrappers and Go's runtime are of that form.
func (c *calls) scan(e *elf.File, arch string) {
	for _, s := range e.Sections {
		if s.Type != elf.SHT_PROGBITS || s.Flags&elf.SHF_EXECINSTR == 0 {
			continue
		}
		if s.Size > maxText {
			c.skipped = "its instructions"
			continue
		}
		b, err := s.Data()
		if err != nil {
			continue // a damaged file; what can't be read doesn't run either
		}
		switch arch {
		case "amd64":
			scanAMD64(b, c.numbers)
		case "arm64":
			scanARM64(b, c.numbers)
		}
	}
}

// window is how far before a system call its number is looked for, in bytes.
const window = 192

// maxCall is above all numbers that Linux has given; larger ones are something else.
const maxCall = 1024

// scanAMD64 looks at the instructions before each byte pair 0f 05. Decoding begins somewhere, maybe within an instruction; x86 code falls into step
// after a few, and a pair that is not met as an instruction is data or a part of one.
func scanAMD64(b []byte, found map[int]bool) {
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte{0x0f, 0x05})
		if i < 0 {
			return
		}
		at += i
		from := max(0, at-window)
		if n := numberAMD64(b[from:min(len(b), at+longest)], at-from); n >= 0 {
			found[n] = true
		}
		at += 2
	}
}

// longest is the length of the longest instruction.
const longest = 15

// numberAMD64 is the number of the system call at end; -1 if it isn't known, or none.
func numberAMD64(b []byte, end int) int {
	number := -1
	for at := 0; at <= end; {
		in, err := x86asm.Decode(b[at:], 64)
		if err != nil {
			number = -1
			at++
			continue
		}
		if in.Op == x86asm.SYSCALL && at == end {
			return number
		}
		at += in.Len
		number = after(in, number)
	}
	return -1
}

// after is what is known of rax after an instruction.
func after(in x86asm.Inst, number int) int {
	switch in.Op {
	case x86asm.CALL, x86asm.JMP, x86asm.RET, x86asm.SYSCALL, x86asm.INT, x86asm.CPUID, x86asm.MUL, x86asm.DIV, x86asm.IDIV, x86asm.CMPXCHG, x86asm.XCHG, x86asm.XADD, x86asm.CDQE, x86asm.LODSB, x86asm.LODSQ:
		return -1
	case x86asm.CMP, x86asm.TEST, x86asm.PUSH, x86asm.NOP:
		return number
	}
	dest, ok := in.Args[0].(x86asm.Reg)
	if !ok || dest != x86asm.EAX && dest != x86asm.RAX && dest != x86asm.AX && dest != x86asm.AL {
		return number
	}
	if n, ok := in.Args[1].(x86asm.Imm); ok && in.Op == x86asm.MOV && dest != x86asm.AX && dest != x86asm.AL && n >= 0 && n < maxCall {
		return int(n)
	}
	if r, ok := in.Args[1].(x86asm.Reg); ok && in.Op == x86asm.XOR && r == dest {
		return 0
	}
	return -1
}

// scanARM64 looks at the words before each svc #0 (Arm ARM, C6: SVC, MOVZ).
func scanARM64(b []byte, found map[int]bool) {
	const svc = 0xd4000001
	word := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	for at := 0; at+4 <= len(b); at += 4 {
		if word(at) != svc {
			continue
		}
		for back := at - 4; back >= 0 && back > at-window; back -= 4 {
			w := word(back)
			if w == svc || branches(w) {
				break
			}
			if w&0x7f80001f == 0x52800008 { // movz w8 or x8
				if imm := int(w >> 5 & 0xffff); w>>21&3 == 0 && imm < maxCall {
					found[imm] = true
				}
				break
			}
		}
	}
}

// branches reports whether a word is B, BL, BR, BLR or RET; a conditional branch may be passed.
func branches(w uint32) bool { return w&0x7c000000 == 0x14000000 || w&0xfe000000 == 0xd6000000 }
