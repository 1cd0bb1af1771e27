package tarfs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mountBed is a tree with a directory srv/ and what lies over it: vol at srv, in at srv/in, ro at ro, a file at etc/hosts, and tmp, which
// can't be reached.
func mountBed(t *testing.T) (dir string, o Options) {
	t.Helper()
	top := t.TempDir()
	for name, entries := range map[string][]string{
		"root": {"d srv", "f srv/hidden 0", "d etc", "f etc/hosts 0", "f etc/passwd 0", "d ro", "d tmp", "l to /srv", "l srv/out ../../../host"},
		"vol":  {"f old 0", "d in", "l abs /etc", "l up ../etc"}, "in": {}, "ro": {}, "host": {},
	} {
		d := filepath.Join(top, name)
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := extract(t, d, archive(t, entries...), Options{}); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(top, name) }
	return top, Options{Mounts: []Mount{
		{At: ".", Dir: at("root")}, {At: "etc/hosts"}, {At: "srv", Dir: at("vol")}, {At: "ro", Dir: at("ro"), ReadOnly: true},
		{At: "tmp", Err: errors.New("in a tmpfs")}, {At: "srv/in", Dir: at("in")}, {At: "none/new", Dir: at("host")},
	}}
}

func TestMounts(t *testing.T) {
	const root = "etc/ etc/hosts=0 etc/passwd=0 ro/ srv/ srv/hidden=0 srv/out->../../../host tmp/ to->/srv"
	const vol = "abs->/etc in/ old=0 up->../etc"
	type want struct{ root, vol, in, host string }
	as := func(w want) want {
		if w.root == "" {
			w.root = root
		}
		if w.vol == "" {
			w.vol = vol
		}
		return w
	}
	for name, c := range map[string]struct {
		tar   string
		o     Options
		want  want
		wrong string
	}{
		"into it":               {tar: "f srv/new 1", want: want{vol: "abs->/etc in/ new=1 old=0 up->../etc"}},
		"through a link":        {tar: "f to/new 1", want: want{vol: "abs->/etc in/ new=1 old=0 up->../etc"}},
		"the mounted directory": {tar: "d srv,f srv/new 1", want: want{vol: "abs->/etc in/ new=1 old=0 up->../etc"}},
		"one in another":        {tar: "f srv/in/new 1,d srv/in/d", want: want{in: "d/ new=1"}},
		"one of no directory":   {tar: "f none/new/x 1", want: want{root: strings.Replace(root, "ro/", "none/ ro/", 1), host: "x=1"}},
		"out of it by links":    {tar: "f srv/abs/a 1,f srv/up/b 1", want: want{root: strings.Replace(root, "etc/hosts", "etc/a=1 etc/b=1 etc/hosts", 1)}},
		"from within":           {tar: "f new 1", o: Options{Sub: "srv/in"}, want: want{in: "new=1"}},
		"a file over one":       {tar: "f old 1", o: Options{Sub: "srv"}, want: want{vol: "abs->/etc in/ old=1 up->../etc"}},
		"what a link hides":     {tar: "f srv/out/x 1", want: want{vol: "abs->/etc in/ old=0 out/ out/x=1 up->../etc"}},
		"read-only file":        {tar: "f ro/new 1", wrong: "open /ro/new: " + unix.EROFS.Error()},
		"read-only parent":      {tar: "f ro/d/new 1", wrong: "mkdir /ro/d: " + unix.EROFS.Error()},
		"read-only directory":   {tar: "d ro", wrong: "lchown /ro: " + unix.EROFS.Error()},
		"read-only new one":     {tar: "d ro/d", wrong: "mkdir /ro/d: " + unix.EROFS.Error()},
		"read-only link":        {tar: "l ro/l x", wrong: "symlink /ro/l: " + unix.EROFS.Error()},
		"beyond reach":          {tar: "f tmp/new 1", wrong: "in a tmpfs"},
		"at what can't be had":  {tar: "d tmp", wrong: "in a tmpfs"},
		"a file at its place":   {tar: "f srv 1", wrong: "unlinkat /srv: " + unix.EBUSY.Error()},
		"a link at its place":   {tar: "l srv /etc", wrong: "unlinkat /srv: " + unix.EBUSY.Error()},
		"a parent's place":      {tar: "f etc 1", wrong: "unlinkat /etc: " + unix.EBUSY.Error()},
		"a mounted file":        {tar: "f etc/hosts 1", wrong: "unlinkat /etc/hosts: " + unix.EBUSY.Error()},
		"a directory over it":   {tar: "d etc/hosts", wrong: "unlinkat /etc/hosts: " + unix.EBUSY.Error()},
		"beneath a file":        {tar: "f etc/hosts/x 1", wrong: "not a directory"},
		"no overwriting":        {tar: "f srv 1", o: Options{NoOverwriteDirNonDir: true}, wrong: "cannot overwrite directory"},
		"hard link across":      {tar: "h srv/l etc/passwd", wrong: "link /etc/passwd /srv/l: " + unix.EXDEV.Error()},
		"hard link to a mount":  {tar: "h etc/l etc/hosts", wrong: "link /etc/hosts /etc/l: " + unix.EXDEV.Error()},
		"hard link within":      {tar: "h srv/l srv/old", want: want{vol: "abs->/etc in/ l=0 old=0 up->../etc"}},
	} {
		top, o := mountBed(t)
		o.Sub, o.NoOverwriteDirNonDir = c.o.Sub, c.o.NoOverwriteDirNonDir
		_, err := extract(t, filepath.Join(top, "root"), archive(t, strings.Split(c.tar, ",")...), o)
		if (c.wrong == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v, want %q", name, err, c.wrong)
		}
		got := want{tree(t, filepath.Join(top, "root")), tree(t, filepath.Join(top, "vol")), tree(t, filepath.Join(top, "in")), tree(t, filepath.Join(top, "host"))}
		if w := as(c.want); got != w {
			t.Errorf("%s: got  %q\nwant %q", name, got, w)
		}
		if ro := tree(t, filepath.Join(top, "ro")); ro != "" {
			t.Errorf("%s: the read-only mount has %s", name, ro)
		}
	}
}

// TestMountsHoldAgainstSwaps has somebody turn directories in a mount and in the tree into links that lead out, and back.
func TestMountsHoldAgainstSwaps(t *testing.T) {
	top, o := mountBed(t)
	host := filepath.Join(top, "host")
	places := []string{filepath.Join(top, "vol", "swap"), filepath.Join(top, "root", "swap")}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			p := places[i%2]
			os.Mkdir(p+"-dir", 0o755)
			os.Symlink(host, p+"-link")
			os.Rename(p+"-dir", p) // the one of them that isn't there fails
			os.Rename(p, p+"-old")
			os.Rename(p+"-link", p)
			os.RemoveAll(p + "-old")
			os.Remove(p)
		}
	}()
	o.Mounts = o.Mounts[:len(o.Mounts)-1] // host is nobody's here
	b := archive(t, "d srv/swap", "f srv/swap/a 1", "f swap/b 1", "d srv/swap/c", "f srv/swap/c/d 1")
	for range 2000 {
		extract(t, filepath.Join(top, "root"), b, o) // may fail when something is taken away from under it
	}
	close(stop)
	<-ended
	if got := tree(t, host); got != "" {
		t.Errorf("outside of the tree and its mounts: %s", got)
	}
}
