package zfsstore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"golang.org/x/sys/unix"
)

const hasOverlay = true

// setLegacy makes the overlay driver behave as on kernels before 6.7.
func setLegacy(s *Store) { s.d.(*overlay).modern = false }

// capabilityOf is a file's attribute security.capability.
func capabilityOf(t testing.TB, root, name string) string {
	t.Helper()
	var v [64]byte
	n, err := unix.Lgetxattr(filepath.Join(root, name), "security.capability", v[:])
	if err != nil {
		t.Fatal(err)
	}
	return string(v[:n])
}

func staleMount(t testing.TB, dir string) {
	t.Helper()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
}

// TestFiveHundredLowers stacks as many layers as the kernel takes, each way that this kernel has, and one more.
func TestFiveHundredLowers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	top := t.TempDir()
	var s stack
	for i := range maxLayers {
		dir := filepath.Join(top, "l", string(brig.NewRID()), "diff")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600)
		s.lowers = append(s.lowers, dir)
	}
	s.upper, s.work = filepath.Join(top, "u"), filepath.Join(top, "w")
	mnt := filepath.Join(top, "m")
	for _, d := range []string{s.upper, s.work, mnt} {
		os.Mkdir(d, 0o755)
	}
	b := &bench{t: t, cfg: Config{Root: filepath.Join(top, "store"), Driver: "overlay"}}
	b.reopen()
	defer b.clean()
	for _, d := range []*overlay{b.d.(*overlay), {modern: false}} {
		if err := d.attach(s, mnt); err != nil {
			t.Errorf("modern %v: %v", d.modern, err)
			continue
		}
		list, err := os.ReadDir(mnt)
		if err != nil || len(list) != maxLayers {
			t.Errorf("modern %v: %d names, %v", d.modern, len(list), err)
		}
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Fatal(err)
		}
	}
	s.lowers = append(s.lowers, s.lowers[0])
	if err := (&overlay{}).attach(s, mnt); !errs.Is(err, errs.Invalid) {
		t.Errorf("one more: %v", err)
	}
}

// TestOddRoot has a path that overlayfs would split or unescape, and one too long for fsconfig.
func TestOddRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	for _, name := range []string{`a,b:c\d"e`, strings.Repeat("long/", 60) + "x"} {
		b := &bench{t: t, cfg: Config{Root: filepath.Join(t.TempDir(), name), Driver: "overlay"}}
		b.reopen()
		_, p := b.run(b.add(b.add("", "f a 1"), "f b 2"))
		if got := show(t, p); got != "a=1 b=2" {
			t.Errorf("%.20s: %s", name, got)
		}
		b.clean()
	}
}

func TestMountsStayPrivate(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	b := &bench{t: t, cfg: Config{Root: filepath.Join(t.TempDir(), "store"), Driver: "overlay"}}
	b.reopen()
	defer b.clean()
	b.run(b.add("", "f a 1"))
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(info)) {
		if strings.Contains(line, b.cfg.Root) && strings.Contains(line, "shared:") {
			t.Errorf("propagates: %s", line)
		}
	}
}

// BenchmarkMount is what one container costs here: prepare, mount, unmount, remove.
func BenchmarkMount(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root: mounts")
	}
	bn := &bench{t: b, cfg: Config{Root: filepath.Join(b.TempDir(), "store"), Driver: "overlay"}}
	bn.reopen()
	chain := bn.add(bn.add("", "f a 1"), "f b 1")
	for b.Loop() {
		id, _ := bn.run(chain)
		bn.check(bn.Remove(b.Context(), id))
	}
	bn.clean()
}

// forceBreaks: what a forced unmount takes out of sight stays with who has it open.
const forceBreaks = false
