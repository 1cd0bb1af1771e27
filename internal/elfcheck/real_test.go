package elfcheck

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// program makes some system calls by Go's packages; mount is never called, so the linker leaves it out.
const program = `package main

import (
	"os"
	"os/exec"
	"syscall"
)

func main() {
	if len(os.Args) > 5 {
		exec.Command("/bin/true").Run()
		use()
	}
	syscall.Getpid()
}
`

var uses = map[string]string{
	"linux":   "package main\n\nimport \"syscall\"\n\nfunc use() { syscall.InotifyInit1(0); syscall.Unshare(0); syscall.Mlockall(0) }\n",
	"freebsd": "package main\n\nimport \"syscall\"\n\nfunc use() { syscall.Unmount(\"/\", 0) }\n",
}

func goBuild(t *testing.T, goos, goarch, dir string) string {
	t.Helper()
	src := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module x\n\ngo 1.21\n", "main.go": program, "use.go": uses[goos]} {
		if err := os.WriteFile(filepath.Join(src, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "main-"+goos+"-"+goarch)
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", out, ".")
	cmd.Dir, cmd.Env = src, append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build for %s/%s: %v\n%s", goos, goarch, err, b)
	}
	return "/" + filepath.Base(out)
}

func TestGoPrograms(t *testing.T) {
	dir := t.TempDir()
	for _, goarch := range []string{"amd64", "arm64"} {
		cmd := goBuild(t, "linux", goarch, dir)
		r := check(t, dir, "freebsd/13.2/"+goarch, Image{OS: "linux", Arch: goarch, Cmd: []string{cmd}})
		if r.Verdict != Degraded || len(r.Entry) != 1 || r.Entry[0].Platform != "/"+goarch || !r.Entry[0].Static {
			t.Fatalf("%s: %+v", cmd, r)
		}
		for what, want := range map[string]Verdict{"inotify_init1": Degraded, "unshare": Degraded, "allow.mlock": WillRun, "kern.elf64.fallback_brand": WillRun, "pidfd_open": "", "pivot_root": "", "allow.mount": ""} {
			got := reason(r.Entry[0].Reasons, what).Verdict
			if want == "" && what == "pidfd_open" {
				want = got // Go's own package os may have it or not
			}
			if got != want {
				t.Errorf("%s: %s is %q, want %q: %+v", cmd, what, got, want, r.Entry[0].Reasons)
			}
		}
		if r := check(t, dir, "linux/"+goarch, Image{OS: "linux", Arch: goarch, Cmd: []string{cmd}}); r.Verdict != WillRun {
			t.Errorf("%s on Linux: %+v", cmd, r)
		}
	}
	cmd := goBuild(t, "freebsd", "amd64", dir)
	img := Image{OS: "freebsd", Arch: "amd64", Cmd: []string{cmd}}
	r := check(t, dir, "freebsd/13.2", img)
	if len(r.Entry) != 1 || r.Entry[0].Platform != "freebsd/amd64" || reason(r.Entry[0].Reasons, "allow.mount").Verdict != Degraded || r.Verdict != Degraded {
		t.Errorf("%s: %+v", cmd, r)
	}
	if r := check(t, dir, "linux", img); r.Verdict != WillNot {
		t.Errorf("%s on Linux: %+v", cmd, r)
	}
}

// linuxOnly skips what looks at this machine's own programs for Linux.
func linuxOnly(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("this machine's own programs aren't Linux's")
	}
}

// Debian's static busybox: what its instructions call, its commands being known.
func TestStaticBusybox(t *testing.T) {
	linuxOnly(t)
	const at = "/bin/busybox"
	e, err := elf.Open(at)
	if err != nil {
		t.Skip(err)
	}
	defer e.Close()
	if e.Section(".interp") != nil || runtime.GOARCH != "amd64" {
		t.Skip(at + " isn't static, or not for amd64")
	}
	c := calls{numbers: map[int]bool{}}
	c.scan(e, runtime.GOARCH)
	for name, n := range map[string]int{"read": 0, "write": 1, "execve": 59, "pivot_root": 155, "mount": 165, "umount2": 166, "setns": 308, "unshare": 272} {
		if !c.numbers[n] {
			t.Errorf("%s (%d) is not found", name, n)
		}
	}
	for name, n := range map[string]int{"io_uring_setup": 425, "bpf": 321, "userfaultfd": 323, "kexec_load": 246} {
		if c.numbers[n] {
			t.Errorf("%s (%d) is found", name, n)
		}
	}
	if len(c.numbers) < 120 || len(c.numbers) > 250 {
		t.Errorf("%d calls were found", len(c.numbers))
	}
}

// A program of this machine with all that it loads, and then without.
func TestDynamicProgram(t *testing.T) {
	linuxOnly(t)
	root, err := os.OpenRoot("/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	host := &tree{root: root}
	o, err := host.read("/bin/ls")
	if err != nil {
		t.Fatal(err)
	}
	if !o.program || o.os != "linux" || o.arch != runtime.GOARCH || o.interp == "" || !slices.ContainsFunc(o.needed, libcs) {
		t.Fatalf("%+v", o)
	}
	dir := t.TempDir()
	var libs []string
	take := func(from, to string) {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		put(t, dir, to, b)
	}
	take("/bin/ls", "/usr/bin/ls")
	take(o.interp, o.interp)
	var load func(o *object)
	load = func(o *object) {
		for _, name := range o.needed {
			at, _ := host.library(o, name, "")
			if slices.Contains(libs, name) || at == "" {
				continue
			}
			libs = append(libs, name)
			take(at, "/usr/lib/"+name)
			lib, err := host.read(at)
			if err != nil {
				t.Fatal(err)
			}
			load(lib)
		}
	}
	load(o)
	img := Image{OS: "linux", Arch: runtime.GOARCH, Cmd: []string{"ls"}}
	native := "linux/" + runtime.GOARCH
	if r := check(t, dir, native, img); r.Verdict != WillRun || r.Entry[0].Interpreter != o.interp {
		t.Errorf("%+v", r)
	}
	attributes := func(r Reason) bool { return strings.HasPrefix(r.Why, "extended attributes: ") }
	if r := check(t, dir, "freebsd/13.2/"+runtime.GOARCH, img); r.Verdict != WillRun || !slices.ContainsFunc(r.Entry[0].Reasons, attributes) || r.All != (Counts{WillRun: 1}) {
		t.Errorf("%+v", r)
	}
	// Elsewhere in the image is somewhere: the program may know where.
	i := slices.IndexFunc(libs, func(s string) bool { return strings.HasPrefix(s, "libc.so") })
	if i < 0 {
		t.Fatalf("ls loads %v", libs)
	}
	move := filepath.Join(dir, "opt", libs[i])
	if err := os.MkdirAll(filepath.Dir(move), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "usr/lib", libs[i]), move); err != nil {
		t.Fatal(err)
	}
	if r := check(t, dir, native, img); r.Verdict != WillRun {
		t.Errorf("%+v", r)
	}
	if err := os.Remove(move); err != nil {
		t.Fatal(err)
	}
	if r := check(t, dir, native, img); r.Verdict != WillNot || !strings.Contains(reason(r.Entry[0].Reasons, libs[i]).Why, "isn't in the image") {
		t.Errorf("%+v", r)
	}
}
