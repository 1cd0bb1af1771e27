package elfcheck

import (
	"debug/elf"
	"debug/gosym"
	"maps"
	"os"
	"slices"
	"strings"
)

// Bounds of what is read of one file, in bytes. A section beyond them isn't looked at, and the report says so.
const (
	maxText  = 512 << 20
	maxTable = 256 << 20
)

// calls are what a file can ask of the kernel.
type calls struct {
	names   map[string]bool // functions of libraries or of Go's packages, by the system call's name as far as they have it
	numbers map[int]bool    // made by the file's own instructions
	skipped string          // what was too large to be looked at
}

// readCalls finds them: by imported symbols, by the functions that a Go program has linked in, and by instructions.
func readCalls(f *os.File, e *elf.File, o *object) (calls, error) {
	c := calls{names: map[string]bool{}, numbers: map[int]bool{}}
	imported, _ := e.ImportedSymbols() // fails without a dynamic section, which a static program hasn't
	for _, s := range imported {
		c.names[strings.TrimPrefix(s.Name, "__")] = true
	}
	if table, size := goTable(e); table != nil {
		c.goFunctions(table)
	} else if size > maxTable {
		c.skipped = "Go's table of functions"
	}
	if o.os != "freebsd" { // the numbers are Linux's
		c.scan(e, o.arch)
	}
	return c, nil
}

// goTable is Go's table of functions ("pclntab"), which a stripped program has too; nil if it is none of Go's, or larger than maxTable.
func goTable(e *elf.File) (*gosym.Table, uint64) {
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
		s := e.Section(name)
		if s == nil {
			continue
		}
		text := e.Section(".text")
		b := section(e, name, maxTable)
		if b == nil || text == nil {
			return nil, s.Size
		}
		t, err := gosym.NewTable(nil, gosym.NewLineTable(b, text.Addr))
		if err != nil {
			return nil, 0
		}
		return t, s.Size
	}
	return nil, 0
}

// goPackages are those whose functions are named for system calls. The linker leaves out what is never called.
var goPackages = []string{"syscall.", "golang.org/x/sys/unix.", "vendor/golang.org/x/sys/unix.", "internal/syscall/unix."}

// goNames are Go's functions that are named otherwise than the call, by squeeze.
var goNames = map[string]string{
	"unmount": "umount2", "keyctlint": "keyctl", "keyctlbuffer": "keyctl", "keyctlstring": "keyctl", "keyctljoinsessionkeyring": "keyctl",
	"eaccess": "faccessat2", "inotifyinit": "inotify_init1", "signalfd": "signalfd4", "prctlretint": "prctl",
}

// squeeze makes one spelling of a Go function's name and a system call's.
func squeeze(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }

func (c *calls) goFunctions(t *gosym.Table) {
	for _, f := range t.Funcs {
		name := f.Name
		if i := strings.Index(name, "/vendor/"); i >= 0 {
			name = name[i+len("/vendor/"):]
		}
		for _, p := range goPackages {
			fn, ok := strings.CutPrefix(name, p)
			if !ok || strings.ContainsAny(fn, ".(") {
				continue
			}
			s := squeeze(fn)
			if to := goNames[s]; to != "" {
				s = squeeze(to)
			}
			c.names["go:"+s] = true
		}
	}
}

// has reports whether the call of that name and number (-1: it has none here) is among them.
func (c *calls) has(name string, aliases []string, number int) bool {
	if c.names[name] || c.names["go:"+squeeze(name)] || number >= 0 && c.numbers[number] {
		return true
	}
	return slices.ContainsFunc(aliases, func(a string) bool { return c.names[a] })
}

// beyond lists the numbers above last.
func (c *calls) beyond(last int) []int {
	return slices.Sorted(func(yield func(int) bool) {
		for n := range maps.Keys(c.numbers) {
			if n > last && !yield(n) {
				return
			}
		}
	})
}
