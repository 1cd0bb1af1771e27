package elfcheck

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// made is an ELF file that a test makes: a header, and what else it says.
type made struct {
	osabi   elf.OSABI
	machine elf.Machine
	interp  string
	note    string // name of an ABI note
	tag     uint32 // its first word
	text    []byte // instructions
}

// bytes lays it out: header, program headers, contents, then the sections .text and .shstrtab.
func (m made) bytes(t testing.TB) []byte {
	t.Helper()
	type part struct {
		kind elf.ProgType
		data []byte
	}
	var parts []part
	if m.interp != "" {
		parts = append(parts, part{elf.PT_INTERP, append([]byte(m.interp), 0)})
	}
	if m.note != "" {
		var n bytes.Buffer
		name := append([]byte(m.note), 0)
		for _, v := range []uint32{uint32(len(name)), 4, 1} {
			write(t, &n, v)
		}
		n.Write(append(name, make([]byte, -len(name)&3)...))
		write(t, &n, m.tag)
		parts = append(parts, part{elf.PT_NOTE, n.Bytes()})
	}
	const header, prog, sect = 64, 56, 64
	names := []byte("\x00.text\x00.shstrtab\x00")
	off := uint64(header + prog*len(parts))
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(m.machine), Version: 1, Ehsize: header, Phoff: header, Phentsize: prog, Phnum: uint16(len(parts)), Shentsize: sect, Shnum: 3, Shstrndx: 2}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	h.Ident[elf.EI_OSABI] = byte(m.osabi)
	var progs, body bytes.Buffer
	for _, p := range parts {
		write(t, &progs, elf.Prog64{Type: uint32(p.kind), Off: off, Filesz: uint64(len(p.data)), Memsz: uint64(len(p.data)), Align: 4})
		body.Write(p.data)
		off += uint64(len(p.data))
	}
	text := off
	body.Write(m.text)
	body.Write(names)
	h.Shoff = text + uint64(len(m.text)+len(names))
	var out bytes.Buffer
	write(t, &out, h)
	out.Write(progs.Bytes())
	out.Write(body.Bytes())
	write(t, &out, elf.Section64{})
	write(t, &out, elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC | elf.SHF_EXECINSTR), Off: text, Size: uint64(len(m.text)), Addr: 0x1000})
	write(t, &out, elf.Section64{Name: 7, Type: uint32(elf.SHT_STRTAB), Off: text + uint64(len(m.text)), Size: uint64(len(names))})
	return out.Bytes()
}

func write(t testing.TB, b *bytes.Buffer, v any) {
	t.Helper()
	if err := binary.Write(b, binary.LittleEndian, v); err != nil {
		t.Fatal(err)
	}
}

// put writes an executable file into a tree.
func put(t testing.TB, dir, name string, b []byte) {
	t.Helper()
	at := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, dir, name, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// check runs Check on a host by its name.
func check(t testing.TB, dir, host string, img Image) *Report {
	t.Helper()
	h, err := ParseHost(host, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Check(t.Context(), dir, img, h)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// reason finds what is said of what; the zero Reason if nothing is.
func reason(list []Reason, what string) Reason {
	for _, r := range list {
		if r.What == what {
			return r
		}
	}
	return Reason{}
}
