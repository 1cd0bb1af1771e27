package elfcheck

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func allGaps(t *testing.T) map[string]*gaps {
	t.Helper()
	out := map[string]*gaps{}
	for _, v := range versions {
		b, err := tables.ReadFile(v.file)
		if err != nil {
			t.Fatal(err)
		}
		if out[v.name], err = parseGaps(string(b)); err != nil {
			t.Fatalf("%s: %v", v.file, err)
		}
	}
	return out
}

// linuxNumbers are x/sys's, which are made of Linux's own headers.
func linuxNumbers(t *testing.T, arch string) map[string]int {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatal(err)
	}
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_"+arch+".go"), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		name, is := strings.CutPrefix(v.Names[0].Name, "SYS_")
		lit, isLit := v.Values[0].(*ast.BasicLit)
		if n, err := strconv.Atoi(lit.Value); is && isLit && err == nil {
			out[strings.ToLower(name)] = n
		}
		return true
	})
	return out
}

// FreeBSD's numbers are read out of its sources; Linux's must be the same, or a call is taken for another.
func TestNumbersAreLinux(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		want := linuxNumbers(t, arch)
		if len(want) < 300 {
			t.Fatalf("%s: %d numbers", arch, len(want))
		}
		for name, g := range allGaps(t) {
			for _, x := range g.list {
				n, ok := x.numbers[arch]
				w, known := want[x.name]
				if alias := map[string]string{"epoll_ctl_old": "epoll_ctl_old", "umount2": "umount2"}[x.name]; alias != "" && !known {
					w, known = want[alias]
				}
				if ok && known && n != w {
					t.Errorf("%s on %s: %s is %d, and Linux's is %d", name, arch, x.name, n, w)
				}
				if ok && !known {
					t.Errorf("%s on %s: Linux has no %s", name, arch, x.name)
				}
			}
		}
	}
}

// Each gap is judged, and nothing else is.
func TestEffects(t *testing.T) {
	used := map[string]bool{}
	for version, g := range allGaps(t) {
		for _, x := range g.list {
			used[x.name] = true
			if _, ok := effects[x.name]; ok == nowhere[x.name] {
				t.Errorf("%s: %s is in both of effects and nowhere, or in none", version, x.name)
			}
		}
	}
	for name, e := range effects {
		if !used[name] || e.why == "" {
			t.Errorf("effects has %s, which is no gap, or says nothing", name)
		}
	}
	for name := range nowhere {
		if !used[name] {
			t.Errorf("nowhere has %s, which is no gap", name)
		}
	}
}

func TestTableForHost(t *testing.T) {
	for _, c := range []struct{ host, source, note, has, lacks string }{
		{"freebsd/13.2", "FreeBSD 13.2-RELEASE: ", "", "close_range", "bpf"},
		{"freebsd/13.4", "FreeBSD 13.2-RELEASE: ", "a newer system may lack less", "", "bpf"},
		{"freebsd/12.4", "FreeBSD 13.2-RELEASE: ", "an older system lacks more", "", "bpf"},
		{"freebsd/14.1", "FreeBSD's main before 14.0: ", "development of FreeBSD 14", "close_range", "inotify_add_watch"},
		{"freebsd/15.0", "FreeBSD's main before 15.0, ", "development of FreeBSD 15", "inotify_add_watch", "io_uring_setup"},
	} {
		h, err := ParseHost(c.host, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		g, err := gapsFor(h)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, x := range g.list {
			names[x.name] = true
		}
		if !strings.HasPrefix(g.source, c.source) || !strings.Contains(g.note, c.note) || (g.note == "") != (c.note == "") || !names[c.lacks] || c.host != "freebsd/13.2" && names[c.has] {
			t.Errorf("%s: %q, %q, %v", c.host, g.source, g.note, names)
		}
	}
	for _, bad := range []string{"", "source x\n", "source x\nlast amd64 1\nname 1\n", "source x\nlast amd64 y\n", "source x\nlast amd64 1\nname one - ENOSYS\n"} {
		if g, err := parseGaps(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, g)
		}
	}
}
