package nmount

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/errs"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct{ fstype, words, want string }{
		{"nullfs", "rbind,rprivate", "[]"},
		{"nullfs", "bind,ro,,nosuid", "[[ro ] [nosuid ]]"},
		{"tmpfs", "size=3m,uid=7,mode=0700", "[[size 3145728] [uid 7] [mode 0700]]"},
		{"tmpfs", "nr_inodes=1k,size=7", "[[inodes 1024] [size 7]]"},
		{"tmpfs", "size=1g,size=2g", "[[size 1073741824]]"},
		{"tmpfs", "size=9999999999g", "[[size 9999999999g]]"}, // refused by the kernel
		{"nullfs", "size=1m", `the option "size=1m" is Linux's`},
		{"nullfs", "rslave", "FreeBSD has no propagation (rslave)"},
		{"tmpfs", "huge=always", `the option "huge=always" is Linux's`},
	} {
		got, err := Options(c.fstype, nil, strings.Split(c.words, ","))
		said := fmt.Sprint(got)
		if err != nil {
			said = err.Error()
			if errs.KindOf(err) != errs.NotImplemented {
				t.Errorf("%s: the kind is %v", c.words, errs.KindOf(err))
			}
		}
		if said != c.want && !(len(got) == 0 && err == nil && c.want == "[]") {
			t.Errorf("%s %s: %s, want %s", c.fstype, c.words, said, c.want)
		}
	}
	if got, err := Options("nullfs", []Option{{"nounixbypass", ""}}, []string{"nounixbypass", "ro"}); err != nil || len(got) != 2 {
		t.Errorf("what is there already: %v, %v", got, err)
	}
}

func TestNFS(t *testing.T) {
	for _, c := range [][3]string{
		{":/export", "addr=10.0.0.1,rw,nfsvers=4.1,hard,timeo=600", "10.0.0.1:/export nfsv4,minorversion=1,timeout=600"},
		{":/export", "addr=fd00::1,vers=3,nolock,proto=tcp,ro", "[fd00::1]:/export nfsv3,nolockd,tcp,ro"},
		{"host:/export", "soft", "host:/export soft"},
	} {
		from, options := NFS(c[0], strings.Split(c[1], ","))
		if got := from + " " + strings.Join(options, ","); got != c[2] {
			t.Errorf("%v: %s", c[:2], got)
		}
	}
}

func TestPairs(t *testing.T) {
	var got []string
	for _, p := range Pairs("nullfs", "/a", "/b", []Option{{"ro", ""}, {"x", "1"}}) {
		got = append(got, fmt.Sprintf("%q", p))
	}
	want := []string{`"fstype\x00"`, `"nullfs\x00"`, `"fspath\x00"`, `"/b\x00"`, `"target\x00"`, `"/a\x00"`, `"ro\x00"`, `""`, `"x\x00"`, `"1\x00"`}
	if !slices.Equal(got, want) {
		t.Error(got)
	}
	if got := Pairs("devfs", "", ".", nil); len(got) != 4 {
		t.Errorf("without a source: %q", got)
	}
}
