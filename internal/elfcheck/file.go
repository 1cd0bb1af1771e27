package elfcheck

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
)

// An object is what an ELF file says of itself.
type object struct {
	path     string
	program  bool   // not a library
	os, arch string // os "": nothing says it
	interp   string
	requires int      // __FreeBSD_version of its note
	needed   []string // libraries
	runpath  []string // $ORIGIN replaced
	calls    calls
}

// machines are the architectures that Docker images are made for, by ELF machine and class. Of PowerPC the byte order tells: it is added.
var machines = map[elf.Machine]map[elf.Class]string{
	elf.EM_X86_64: {elf.ELFCLASS64: "amd64", elf.ELFCLASS32: "x32"}, elf.EM_386: {elf.ELFCLASS32: "386"},
	elf.EM_AARCH64: {elf.ELFCLASS64: "arm64"}, elf.EM_ARM: {elf.ELFCLASS32: "arm"}, elf.EM_RISCV: {elf.ELFCLASS64: "riscv64"},
	elf.EM_PPC64: {elf.ELFCLASS64: "ppc64"}, elf.EM_S390: {elf.ELFCLASS64: "s390x"}, elf.EM_LOONGARCH: {elf.ELFCLASS64: "loong64"},
	elf.EM_MIPS: {elf.ELFCLASS64: "mips64", elf.ELFCLASS32: "mips"},
}

// errNotELF is of a file that begins as an ELF file and is none.
var errNotELF = errors.New("not a whole ELF file")

// read reads the ELF file at name.
func (t *tree) read(name string) (*object, error) {
	f, at, err := t.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	e, err := elf.NewFile(f)
	if err != nil {
		return nil, errors.Join(errNotELF, err)
	}
	defer e.Close()
	o := &object{path: at, arch: architecture(e)}
	if o.interp, err = interpreter(e); err != nil {
		return nil, errors.Join(errNotELF, err)
	}
	o.brand(e)
	flags, _ := e.DynValue(elf.DT_FLAGS_1) // fails without a dynamic section, which a static program hasn't
	pie := slices.ContainsFunc(flags, func(v uint64) bool { return elf.DynFlag1(v)&elf.DF_1_PIE != 0 })
	o.program = e.Type == elf.ET_EXEC || e.Type == elf.ET_DYN && (o.interp != "" || pie)
	o.needed, _ = e.ImportedLibraries() // likewise
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		list, _ := e.DynString(tag) // likewise
		for _, dirs := range list {
			for dir := range strings.SplitSeq(dirs, ":") {
				o.runpath = append(o.runpath, strings.NewReplacer("$ORIGIN", path.Dir(at), "${ORIGIN}", path.Dir(at)).Replace(dir))
			}
		}
	}
	if libcs(path.Base(at)) {
		o.program = false // the C library and its linker can be executed, to say their version
	}
	o.calls, err = readCalls(f, e, o)
	return o, err
}

// architecture is what a file is for, in Go's words where Go has any.
func architecture(e *elf.File) string {
	arch := machines[e.Machine][e.Class]
	switch {
	case arch == "":
		return strings.ToLower(strings.TrimPrefix(e.Machine.String(), "EM_"))
	case arch == "ppc64" && e.Data == elf.ELFDATA2LSB:
		return "ppc64le"
	}
	return arch
}

// interpreter is the dynamic linker that the kernel is asked for.
func interpreter(e *elf.File) (string, error) {
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			if p.Filesz > 4096 { // MAXPATHLEN; the kernels refuse longer ones
				return "", errors.New("its interpreter's name is too long")
			}
			b, err := io.ReadAll(p.Open())
			return strings.TrimRight(string(b), "\x00"), err
		}
	}
	return "", nil
}

// brand finds what system the file is for: by its OSABI, by its ABI notes (elf(5); LSB core, "ABI note tag"), or by its interpreter, as
// FreeBSD's sys/kern/imgact_elf.c does.
func (o *object) brand(e *elf.File) {
	for _, p := range e.Progs {
		if p.Type == elf.PT_NOTE && p.Filesz < 1<<16 {
			b, err := io.ReadAll(p.Open())
			if err == nil {
				o.notes(b, e.ByteOrder)
			}
		}
	}
	base := path.Base(o.interp)
	switch {
	case o.os != "":
	case e.OSABI == elf.ELFOSABI_FREEBSD, strings.HasPrefix(base, "ld-elf"):
		o.os = "freebsd"
	case e.OSABI == elf.ELFOSABI_LINUX, strings.HasPrefix(base, "ld-linux"), strings.HasPrefix(base, "ld-musl"), strings.HasPrefix(base, "ld64.so"), base == "ld.so.1":
		o.os = "linux"
	case e.OSABI == elf.ELFOSABI_NETBSD:
		o.os = "netbsd"
	case e.OSABI == elf.ELFOSABI_OPENBSD:
		o.os = "openbsd"
	case e.OSABI == elf.ELFOSABI_SOLARIS:
		o.os = "solaris"
	}
}

// notes reads the notes of one segment: name size, descriptor size, type, each 4 bytes, then both, each padded to 4.
func (o *object) notes(b []byte, order binary.ByteOrder) {
	const tag = 1 // NT_FREEBSD_ABI_TAG and NT_GNU_ABI_TAG
	for len(b) >= 12 {
		name, desc, kind := uint64(order.Uint32(b)), uint64(order.Uint32(b[4:])), order.Uint32(b[8:])
		b = b[12:]
		pad := func(n uint64) uint64 { return (n + 3) &^ 3 }
		if pad(name)+desc > uint64(len(b)) {
			return
		}
		who, what := string(b[:name]), b[pad(name):pad(name)+desc]
		b = b[min(pad(name)+pad(desc), uint64(len(b))):]
		switch {
		case kind == tag && who == "FreeBSD\x00" && len(what) >= 4:
			o.os, o.requires = "freebsd", int(order.Uint32(what))
		case kind == tag && who == "GNU\x00" && len(what) >= 4 && order.Uint32(what) == 0:
			o.os = "linux"
		case kind == tag && who == "NetBSD\x00":
			o.os = "netbsd"
		case kind == tag && who == "OpenBSD\x00":
			o.os = "openbsd"
		}
	}
}

// section reads a section of at most n bytes; nil if it isn't there, is longer, or can't be read.
func section(e *elf.File, name string, n uint64) []byte {
	s := e.Section(name)
	if s == nil || s.Type == elf.SHT_NOBITS || s.Size > n {
		return nil
	}
	b, err := s.Data()
	if err != nil {
		return nil
	}
	return b
}
