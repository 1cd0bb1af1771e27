package elfcheck

import (
	"debug/elf"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var linuxStatic = made{osabi: elf.ELFOSABI_LINUX, machine: elf.EM_X86_64}

// mov $n,%eax; syscall
func callAMD64(n byte) []byte { return []byte{0xb8, n, 0, 0, 0, 0x0f, 0x05} }

func TestVerdictsByHost(t *testing.T) {
	freebsd := func(v uint32) made {
		return made{osabi: elf.ELFOSABI_FREEBSD, machine: elf.EM_X86_64, note: "FreeBSD", tag: v}
	}
	for _, c := range []struct {
		name, os, arch, host string
		file                 made
		want                 Verdict
		why                  string
	}{
		{"native", "linux", "amd64", "linux", linuxStatic, WillRun, ""},
		{"Linux ABI", "linux", "amd64", "freebsd/13.2", linuxStatic, WillRun, ""},
		{"other machine", "linux", "arm64", "linux", made{machine: elf.EM_AARCH64}, WillNot, "binfmt_misc has no interpreter for arm64"},
		{"other machine, FreeBSD", "linux", "arm64", "freebsd/13.2", made{machine: elf.EM_AARCH64}, WillNot, "the host is amd64"},
		{"FreeBSD's on Linux", "freebsd", "amd64", "linux", freebsd(1302001), WillNot, "Linux runs no programs of freebsd"},
		{"same FreeBSD", "freebsd", "amd64", "freebsd/13.2", freebsd(1302001), WillRun, ""},
		{"older FreeBSD", "freebsd", "amd64", "freebsd/14.1", freebsd(1302001), WillRun, ""},
		{"newer minor version", "freebsd", "amd64", "freebsd/13.2", freebsd(1304000), Degraded, "it was made for FreeBSD 13.4"},
		{"newer major version", "freebsd", "amd64", "freebsd/13.2-RELEASE", freebsd(1401000), WillNot, "it was made for FreeBSD 14"},
		{"no brand, unknown host", "linux", "amd64", "freebsd/13.2", made{machine: elf.EM_X86_64}, WillRun, "this sysctl must be 3"},
		{"GNU's note is a brand", "linux", "amd64", "freebsd/13.2", made{machine: elf.EM_X86_64, note: "GNU"}, WillRun, ""},
		{"no linker", "linux", "amd64", "linux", made{machine: elf.EM_X86_64, interp: "/lib64/ld-linux-x86-64.so.2"}, WillNot, "its dynamic linker isn't in the image"},
		{"Windows", "windows", "amd64", "linux", made{osabi: elf.ELFOSABI_SOLARIS, machine: elf.EM_X86_64}, WillNot, "Linux runs no programs of windows"},
	} {
		dir := t.TempDir()
		put(t, dir, "bin/main", c.file.bytes(t))
		r := check(t, dir, c.host, Image{OS: c.os, Arch: c.arch, Cmd: []string{"main"}})
		if r.Verdict != c.want || len(r.Entry) != 1 || r.Entry[0].Verdict != c.want {
			t.Errorf("%s: got %+v, want %q", c.name, r, c.want)
			continue
		}
		all := ""
		for _, re := range append(r.Reasons, r.Entry[0].Reasons...) {
			all += re.String() + "\n"
		}
		if !strings.Contains(all, c.why) || c.why == "" && all != "" && c.host != "freebsd/14.1" {
			t.Errorf("%s: the reasons are %q, want %q", c.name, all, c.why)
		}
	}
}

func TestHostThatIsKnown(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "main", made{machine: elf.EM_X86_64}.bytes(t))
	put(t, dir, "arm", made{machine: elf.EM_AARCH64}.bytes(t))
	for _, c := range []struct {
		host Host
		cmd  string
		want Verdict
	}{
		{Host{OS: "freebsd", Arch: "amd64", Version: 1302001, BrandKnown: true, Brand: 3}, "/main", WillRun},
		{Host{OS: "freebsd", Arch: "amd64", Version: 1302001, BrandKnown: true, Brand: -1}, "/main", WillRun},
		{Host{OS: "freebsd", Arch: "amd64", Version: 1302001, BrandKnown: true, Brand: 9}, "/main", WillNot},
		{Host{OS: "linux", Arch: "amd64", Emulates: []string{"arm64"}}, "/arm", Degraded},
	} {
		r, err := Check(t.Context(), dir, Image{OS: "linux", Arch: "amd64", Cmd: []string{c.cmd}}, c.host)
		if err != nil || r.Verdict != c.want {
			t.Errorf("%+v: %+v, %v; want %q", c.host, r, err, c.want)
		}
	}
}

// One call of each kind: one that programs do without, one that they need, one that the program is about, one that a jail refuses.
func TestCallsMakeVerdicts(t *testing.T) {
	for _, c := range []struct {
		name string
		call byte
		host string
		want Verdict
		what string
	}{
		{"writer", 1, "freebsd/13.2", WillRun, ""},
		{"server", 254, "freebsd/13.2", Degraded, "inotify_add_watch"},
		{"server", 254, "freebsd/15.0", WillRun, ""},
		{"server", 254, "linux", WillRun, ""},
		{"inotifywait", 254, "freebsd/13.2", WillNot, "inotify_add_watch"},
		{"server", 191, "freebsd/13.2", WillRun, "getxattr"},
		{"server", 165, "freebsd/13.2", Degraded, "allow.mount"},
		{"mount", 165, "freebsd/13.2", WillNot, "allow.mount"},
		{"vault", 149, "freebsd/13.2", WillRun, "allow.mlock"},
	} {
		f := linuxStatic
		f.text = callAMD64(c.call)
		dir := t.TempDir()
		put(t, dir, "usr/bin/"+c.name, f.bytes(t))
		r := check(t, dir, c.host, Image{OS: "linux", Arch: "amd64", Entrypoint: []string{c.name}})
		if r.Verdict != c.want {
			t.Errorf("%s with call %d on %s: %+v, want %q", c.name, c.call, c.host, r, c.want)
		}
		if c.what != "" && reason(r.Entry[0].Reasons, c.what).Verdict != c.want {
			t.Errorf("%s with call %d on %s: %+v, want %q for %q", c.name, c.call, c.host, r.Entry[0].Reasons, c.want, c.what)
		}
	}
}

// Of a program that is many in one, what one of them can do says nothing of another; but the one that is started is known by its name.
func TestManyInOne(t *testing.T) {
	f := linuxStatic
	f.text = callAMD64(254)
	dir := t.TempDir()
	put(t, dir, "bin/busybox", f.bytes(t))
	for _, n := range []string{"sh", "ls", "cat", "cp", "mv", "rm", "ps", "inotifyd"} {
		link(t, dir, "bin/"+n, "/bin/busybox")
	}
	if r := check(t, dir, "freebsd/13.2", Image{OS: "linux", Arch: "amd64", Cmd: []string{"sh"}}); r.Verdict != WillRun || reason(r.Entry[0].Reasons, "inotify_add_watch").What == "" {
		t.Errorf("sh: %+v", r)
	}
	if r := check(t, dir, "freebsd/13.2", Image{OS: "linux", Arch: "amd64", Cmd: []string{"inotifyd"}}); r.Verdict != WillNot {
		t.Errorf("inotifyd: %+v", r)
	}
}

func TestEntry(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"bin/sh", "usr/bin/env", "usr/bin/python3.11", "usr/local/bin/server", "sbin/tini", "app/run"} {
		put(t, dir, n, linuxStatic.bytes(t))
	}
	link(t, dir, "usr/bin/python3", "python3.11")
	link(t, dir, "loop", "loop")
	link(t, dir, "out", "../../../../usr/local/bin/server") // climbs no higher than the root
	put(t, dir, "entrypoint.sh", []byte("#!/bin/sh -e\nexec \"$@\"\n"))
	put(t, dir, "main.py", []byte("#!/usr/bin/env python3\n"))
	put(t, dir, "bad.sh", []byte("#!/bin/bash\n"))
	put(t, dir, "words", []byte("no program\n"))
	for _, c := range []struct {
		entrypoint, cmd, want string // paths in Entry
		verdict               Verdict
		why                   string
	}{
		{"", "sh", "/bin/sh", WillRun, ""},
		{"/entrypoint.sh", "server", "/bin/sh /usr/local/bin/server", WillRun, "it is a script (/bin/sh -e)"},
		{"/main.py", "", "/usr/bin/env /usr/bin/python3.11", WillRun, "it is a script"},
		{"tini --", "server", "/sbin/tini /usr/local/bin/server", WillRun, ""},
		{"", "/bin/sh -c exec=1 server", "/bin/sh", WillRun, ""},
		{"", "/bin/sh -c server", "/bin/sh /usr/local/bin/server", WillRun, ""},
		{"", "./run", "/app/run", WillRun, ""},
		{"", "/out", "/usr/local/bin/server", WillRun, ""},
		{"", "/loop", "", WillNot, "it isn't there"},
		{"", "gone", "", WillNot, "it isn't there"},
		{"", "/bad.sh", "", WillNot, "/bin/bash: the image starts it, and it isn't there"},
		{"", "/words", "", WillNot, "neither an ELF file nor a script"},
		{"", "", "", WillRun, "doesn't say what it starts"},
	} {
		r := check(t, dir, "freebsd/13.2", Image{OS: "linux", Arch: "amd64", Dir: "/app", Entrypoint: strings.Fields(c.entrypoint), Cmd: strings.Fields(c.cmd)})
		var got, why []string
		for _, f := range r.Entry {
			got = append(got, f.Path)
		}
		for _, re := range r.Reasons {
			why = append(why, re.String())
		}
		if strings.Join(got, " ") != c.want || r.Verdict != c.verdict || !strings.Contains(strings.Join(why, "\n"), c.why) {
			t.Errorf("%s %s: %v, %q, %q; want %s, %q, %q", c.entrypoint, c.cmd, got, r.Verdict, why, c.want, c.verdict, c.why)
		}
	}
}

// Without a command all programs count, and files that aren't programs don't.
func TestNoCommand(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "bin/good", linuxStatic.bytes(t))
	put(t, dir, "bin/bad", made{machine: elf.EM_AARCH64, osabi: elf.ELFOSABI_LINUX}.bytes(t))
	put(t, dir, "bin/script", []byte("#!/bin/sh\n"+strings.Repeat("x", 100)))
	if err := os.WriteFile(filepath.Join(dir, "data"), linuxStatic.bytes(t), 0o644); err != nil {
		t.Fatal(err)
	}
	r := check(t, dir, "linux", Image{OS: "linux", Arch: "amd64"})
	if r.Verdict != Degraded || r.All != (Counts{WillRun: 1, WillNot: 1}) || len(r.Others) != 1 || r.Others[0].Path != "/bin/bad" {
		t.Errorf("%+v", r)
	}
	if err := os.Remove(filepath.Join(dir, "bin/good")); err != nil {
		t.Fatal(err)
	}
	if r = check(t, dir, "linux", Image{OS: "linux", Arch: "amd64"}); r.Verdict != WillNot {
		t.Errorf("%+v", r)
	}
}

// Damaged files get a verdict, whatever is wrong with them.
func TestDamagedFiles(t *testing.T) {
	whole := made{machine: elf.EM_X86_64, interp: "/lib/ld-musl-x86_64.so.1", note: "GNU", text: callAMD64(254)}.bytes(t)
	random := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	for n := range 3000 {
		b := append([]byte{}, whole...)
		for range 1 + n%8 {
			b[4+random.IntN(len(b)-4)] = byte(random.Uint32())
		}
		if n%3 == 0 {
			b = b[:64+random.IntN(len(b)-64)]
		}
		put(t, dir, "main", b)
		r := check(t, dir, "freebsd/13.2", Image{OS: "linux", Arch: "amd64", Cmd: []string{"/main"}})
		if len(r.Entry) != 1 || r.Entry[0].Verdict.rank() < 0 {
			t.Fatalf("%x: %+v", b, r)
		}
	}
}

func TestParseHost(t *testing.T) {
	for s, want := range map[string]string{
		"linux": "linux/amd64", "linux/aarch64": "linux/arm64", "freebsd/13.2": "freebsd/13.2/amd64", "FreeBSD/14.1-RELEASE-p3/arm64": "freebsd/14.1/arm64",
		"freebsd/15": "freebsd/15/amd64",
	} {
		if h, err := ParseHost(s, "amd64"); err != nil || h.String() != want {
			t.Errorf("%s: %v, %v; want %s", s, h, err, want)
		}
	}
	for _, s := range []string{"", "freebsd", "freebsd/x", "freebsd/13.2/arm64/v8", "linux/riscv64", "linux/13.2", "windows", "freebsd/13.2.1", "freebsd/13.2/"} {
		if h, err := ParseHost(s, "amd64"); err == nil {
			t.Errorf("%q is taken as %v", s, h)
		}
	}
	if h := FreeBSDHost("13.2-RELEASE-p1", 1302001, "amd64"); h.String() != "freebsd/13.2/amd64" {
		t.Errorf("%v", h)
	}
}

// The entries are as the kernel shows those of qemu-user-static.
func TestEmulated(t *testing.T) {
	const arm64 = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\n" +
		"magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
	const s390x = "enabled\ninterpreter /usr/bin/qemu-s390x-static\nflags: \noffset 0\nmagic 7f454c4602020100000000000000000000020016\nmask ffffffffffffff00fffffffffffffffffffeffff\n"
	for _, c := range []struct {
		entries []string
		want    string
	}{
		{[]string{s390x, arm64, arm64}, "arm64 s390x"},
		{[]string{strings.Replace(arm64, "enabled", "disabled", 1)}, ""},
		{[]string{strings.Replace(arm64, "offset 0", "offset 4", 1)}, ""},
		{[]string{"enabled\n", "enabled\ninterpreter /usr/bin/python3\nflags: \noffset 0\nmagic 0d0d0a\n", "enabled\nextension .exe\n", ""}, ""},
	} {
		if got := strings.Join(Emulated(c.entries), " "); got != c.want {
			t.Errorf("%q: %q, want %q", c.entries, got, c.want)
		}
	}
}
