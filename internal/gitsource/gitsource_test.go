package gitsource

import (
	"context"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/errs"
)

func TestIsAndParse(t *testing.T) {
	for in, want := range map[string]Source{
		"git://h/p":                         {Remote: "git://h/p"},
		"git://h/p#r":                       {Remote: "git://h/p", Ref: "r"},
		"https://h/p.git":                   {Remote: "https://h/p.git"},
		"https://h/p.git#:d/e":              {Remote: "https://h/p.git", Dir: "d/e"},
		"http://u:p@h:1/p.git#r:d":          {Remote: "http://u:p@h:1/p.git", Ref: "r", Dir: "d"},
		"github.com/o/r":                    {Remote: "https://github.com/o/r"},
		"github.com/o/r.git#pull/1/head":    {Remote: "https://github.com/o/r.git", Ref: "pull/1/head"},
		"git@h:o/r.git#main":                {Remote: "git@h:o/r.git", Ref: "main"},
		"ssh://git@h/o/r#x":                 {Remote: "ssh://git@h/o/r", Ref: "x"},
		"https://h/p":                       {},
		"https://h/p.git/x":                 {},
		"":                                  {},
		"./x.git":                           {},
		"file:///x.git":                     {},
		"ext::sh -c touch% /x.git":          {},
		"git@h":                             {},
		"git@-oProxyCommand=x:y":            {},
		"git://":                            {},
		"ssh://-oProxyCommand=x/y.git":      {},
		"https://h/p.git#--upload-pack=x":   {},
		"https://h/p.git#-x:d":              {},
		"ftp://h/p.git":                     {},
		"https://h/p.git?query#fragment.no": {},
	} {
		got, err := Parse(in)
		if got != want || (err == nil) != (want != Source{}) {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
	}
}

// serve makes a repository and serves it, smart and as plain files. It returns both URLs and the first commit.
func serve(t *testing.T) (smart, dumb, first string) {
	t.Helper()
	backend := "/usr/lib/git-core/git-http-backend"
	if out, err := exec.Command("git", "--exec-path").Output(); err == nil {
		backend = filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
	}
	if _, err := os.Stat(backend); err != nil {
		t.Skip("there is no git here")
	}
	dir := t.TempDir()
	sh := exec.Command("sh", "-ec", `
		export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=e GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=e
		git init -q -b trunk w; cd w; mkdir d; echo 1 >d/f; ln -s d l; ln -s ../.. up; git add .; git commit -qm 1; git tag v1; git rev-parse HEAD
		echo 2 >d/f; git commit -qam 2; git checkout -q -b other; echo 3 >d/f; git commit -qam 3; git checkout -q trunk
		cd ..; git clone -q --bare w x.git; cd x.git; git update-server-info`)
	sh.Dir = dir
	out, err := sh.Output()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/s/", &cgi.Handler{Path: backend, Root: "/s", Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"}, InheritEnv: []string{"PATH"}})
	mux.Handle("/d/", http.StripPrefix("/d", http.FileServer(http.Dir(dir))))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL + "/s/x.git", srv.URL + "/d/x.git", strings.TrimSpace(string(out))
}

func TestFetch(t *testing.T) {
	smart, dumb, first := serve(t)
	for _, base := range []string{smart, dumb} {
		for _, c := range []struct{ fragment, file, want string }{
			{"", "d/f", "2"}, {"#trunk", "d/f", "2"}, {"#v1", "d/f", "1"}, {"#other:d", "f", "3"}, {"#:l", "f", "2"}, {"#" + first + ":d", "f", "1"},
			{"#refs/heads/other", "d/f", "3"},
		} {
			if base == dumb && len(c.fragment) > 8 {
				continue // slow, and what a server without history on demand doesn't do otherwise
			}
			src, err := Parse(base + c.fragment)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			path, commit, err := src.Fetch(context.Background(), dir, false)
			if err != nil || len(commit) != 40 {
				t.Errorf("%s%s: %q, %v", base, c.fragment, commit, err)
				continue
			}
			b, err := os.ReadFile(filepath.Join(path, c.file))
			if err != nil || strings.TrimSpace(string(b)) != c.want {
				t.Errorf("%s%s: %q, %v", base, c.fragment, b, err)
			}
			if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
				t.Errorf("%s%s: .git is there", base, c.fragment)
			}
		}
	}
	src, _ := Parse(smart)
	dir := t.TempDir()
	if _, _, err := src.Fetch(context.Background(), dir, true); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".git", "HEAD")); err != nil {
		t.Error(err)
	}
}

func TestFetchRefuses(t *testing.T) {
	smart, _, _ := serve(t)
	for fragment, want := range map[string]string{
		"#nosuch": "couldn't find remote ref nosuch", "#:nosuch": "has no directory nosuch", "#:d/f": "has no directory",
		"#:../../../../../../etc": "has no directory",
	} {
		src, err := Parse(smart + fragment)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := src.Fetch(context.Background(), t.TempDir(), false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", fragment, err, want)
		}
	}
	src, _ := Parse(smart + "#:up/up/d") // a link that climbs stays at the top
	if path, _, err := src.Fetch(context.Background(), t.TempDir(), false); err != nil || filepath.Base(path) != "d" {
		t.Errorf("a link that leaves the repository: %s, %v", path, err)
	}
	src, _ = Parse("http://user:secret@127.0.0.1:1/x.git")
	if _, _, err := src.Fetch(context.Background(), t.TempDir(), false); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a server that isn't there: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := src.Fetch(ctx, t.TempDir(), false); !errs.Is(err, errs.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, _, err := src.Fetch(context.Background(), t.TempDir(), false); !errs.Is(err, errs.NotImplemented) {
		t.Errorf("without git: %v", err)
	}
}
