// Gapgen lists the system calls of Linux that FreeBSD's Linux ABI lacks, from the sources of a FreeBSD kernel: what syscalls.master has no
// function for, and what its function is a stub of (linux_dummy.c and its like). Package elfcheck embeds what it prints.
//
//	gapgen SYSDIR 'FreeBSD 13.2-RELEASE' > gaps-13.2.txt
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: gapgen SYSDIR SOURCE")
		os.Exit(2)
	}
	out, err := list(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "gapgen:", err)
		os.Exit(1)
	}
	fmt.Print(out)
}

// arches are the columns, in Go's words, which are FreeBSD's too.
var arches = []string{"amd64", "arm64"}

func list(sys, source string) (string, error) {
	numbers := map[string][]string{} // of a gap, for each of arches
	last := make([]int, len(arches))
	errno := map[string]string{}
	for n, arch := range arches {
		files := []string{filepath.Join(sys, "compat/linux/linux_dummy.c"), filepath.Join(sys, arch, "linux/linux_dummy_machdep.c")}
		if arch == "amd64" {
			files = append(files, filepath.Join(sys, "x86/linux/linux_dummy_x86.c"))
		}
		stubs, err := stubs(files...)
		if err != nil {
			return "", err
		}
		t, err := readMaster(filepath.Join(sys, arch, "linux/syscalls.master"))
		if err != nil {
			return "", err
		}
		last[n] = t.last
		for name, number := range t.missing {
			note(numbers, name, n, number)
			errno[name] = "ENOSYS"
		}
		for name, e := range stubs {
			if number, ok := t.there[name]; ok {
				note(numbers, name, n, number)
				errno[name] = e
			}
		}
	}
	names := make([]string, 0, len(numbers))
	for name := range numbers {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	fmt.Fprintf(&b, "source %s\n", source)
	for n, arch := range arches {
		fmt.Fprintf(&b, "last %s %d\n", arch, last[n])
	}
	for _, name := range names {
		fmt.Fprintf(&b, "%s %s %s\n", name, strings.Join(numbers[name], " "), errno[name])
	}
	return b.String(), nil
}

func note(numbers map[string][]string, name string, column, number int) {
	if numbers[name] == nil {
		numbers[name] = slices.Repeat([]string{"-"}, len(arches))
	}
	numbers[name][column] = strconv.Itoa(number)
}

var stub = regexp.MustCompile(`(?m)^DUMMY(_XATTR)?\((\w+)\)`)

// stubs gives the error that each stub answers with, by the system call's name.
func stubs(files ...string) (map[string]string, error) {
	out := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		for _, m := range stub.FindAllStringSubmatch(string(b), -1) {
			if m[1] == "" {
				out[m[2]] = "ENOSYS"
			} else {
				out[m[2]+"xattr"] = "EOPNOTSUPP"
			}
		}
	}
	return out, nil
}

// master is what one syscalls.master says: numbers by name.
type master struct {
	there, missing map[string]int
	last           int // the highest number with a name
}

var call = regexp.MustCompile(`(?m)^(\d+)\s+AUE_\w+\s+(?:UNIMPL\s+(\w+)|(?:STD|NOPROTO)\s*\{\s*\w+\s+\**(\w+)\()`)

func readMaster(file string) (*master, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	t := &master{there: map[string]int{}, missing: map[string]int{}}
	for _, m := range call.FindAllStringSubmatch(string(b), -1) {
		number, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		switch {
		case m[2] == "nosys": // ends the list
		case m[2] != "":
			t.missing[strings.TrimPrefix(m[2], "linux_")] = number
			t.last = max(t.last, number)
		default:
			t.there[strings.TrimPrefix(strings.TrimPrefix(m[3], "linux_"), "sys_")] = number
			t.last = max(t.last, number)
		}
	}
	if len(t.there) < 200 {
		return nil, fmt.Errorf("%s: %d system calls were found in it: it has another form", file, len(t.there))
	}
	return t, nil
}
