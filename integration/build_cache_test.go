package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// rewrite writes a file of a context anew.
func rewrite(t testing.TB, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// buildOf runs docker build, wants success, and returns the image's ID and which of the steps came from the cache: a letter for each, c or -.
func buildOf(t testing.TB, cli testbed.CLI, dir string, args ...string) (id, cached string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "id")
	r := dockerOn(t, cli, nil, append(append([]string{"build", "--iidfile", file}, args...), dir)...)
	if r.Code != 0 {
		t.Fatal(r)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for step := range strings.SplitSeq(r.Out, "\nStep ") {
		if _, what, ok := strings.Cut(step, " : "); !ok || strings.HasPrefix(what, "FROM ") {
			continue
		}
		if strings.Contains(step, "\n ---> Using cache\n") {
			cached += "c"
		} else {
			cached += "-"
		}
	}
	return string(b), cached
}

// A changed file invalidates exactly what follows its COPY, a changed argument what follows it, and times are no change.
func TestBuildCache(t *testing.T) {
	mark := fresh("cache")
	dir := buildDir(t, "a", "a\n", "d/b", "b\n", "d/c", "c\n", "Dockerfile", `FROM `+image("busybox")+`
LABEL mark=`+mark+`
RUN echo one >/one
COPY a /a
RUN cat /a >/two
ARG V
COPY d /d
RUN echo "$V" >/three
ENV LAST=yes
`)
	var first string
	for _, step := range []struct {
		name   string
		change func()
		args   []string
		cached string // of LABEL RUN COPY RUN ARG COPY RUN ENV
		same   bool   // the image is the first
	}{
		{"first", func() {}, nil, "--------", false},
		{"again", func() {}, nil, "cccccccc", true},
		{"touched", func() {
			for _, f := range []string{"a", "d/b", "d"} {
				if err := os.Chtimes(filepath.Join(dir, f), time.Now(), time.Unix(1e9, 0)); err != nil {
					t.Fatal(err)
				}
			}
		}, nil, "cccccccc", true},
		{"another file beside", func() { rewrite(t, dir, "unused", "x") }, nil, "cccccccc", true},
		{"a file in a directory", func() { rewrite(t, dir, "d/b", "new\n") }, nil, "ccccc---", false},
		{"a file more in it", func() { rewrite(t, dir, "d/e", "") }, nil, "ccccc---", false},
		{"that one away", func() { os.Remove(filepath.Join(dir, "d/e")) }, nil, "cccccccc", false},
		{"as it was", func() { rewrite(t, dir, "d/b", "b\n") }, nil, "cccccccc", true},
		{"a mode", func() { os.Chmod(filepath.Join(dir, "a"), 0o600) }, nil, "cc------", false},
		{"a mode as it was", func() { os.Chmod(filepath.Join(dir, "a"), 0o644) }, nil, "cccccccc", true},
		{"a file", func() { rewrite(t, dir, "a", "new\n") }, nil, "cc------", false},
		{"a file as it was", func() { rewrite(t, dir, "a", "a\n") }, nil, "cccccccc", true},
		{"an argument", func() {}, []string{"--build-arg", "V=v"}, "cccccc--", false},
		{"the same argument", func() {}, []string{"--build-arg", "V=v"}, "cccccccc", false},
		{"another argument", func() {}, []string{"--build-arg", "V=w"}, "cccccc--", false},
		{"no argument", func() {}, nil, "cccccccc", true},
		{"no cache", func() {}, []string{"--no-cache"}, "--------", false},
		{"after that", func() {}, nil, "cccccccc", false},
		{"an instruction", func() {
			b, _ := os.ReadFile(filepath.Join(dir, "Dockerfile"))
			rewrite(t, dir, "Dockerfile", strings.Replace(string(b), "cat /a >/two", "cat /a /a >/two", 1))
		}, nil, "ccc-----", false},
	} {
		step.change()
		id, cached := buildOf(t, bed.cli, dir, append(step.args, "-t", mark)...)
		if step.name == "first" {
			first = id
		}
		if cached != step.cached || step.same && id != first {
			t.Errorf("%s: cached %s, want %s; image %s, the first was %s", step.name, cached, step.cached, id, first)
		}
	}
	t.Cleanup(func() { docker(t, "rmi", "-f", mark) })
	equal(t, "what was built last", ok(t, "run", "--rm", mark, "cat", "/one", "/two", "/d/b"), "one\na\na\nb")
}

// COPY --from is cached by what it copies, not by how that was made.
func TestBuildCacheOfStages(t *testing.T) {
	mark := fresh("stages")
	dir := buildDir(t, "in", "1\n", "Dockerfile", `FROM `+image("busybox")+` AS a
LABEL mark=`+mark+`
COPY in /in
RUN wc -l </in >/out
FROM `+image("busybox")+`
LABEL mark=`+mark+`
COPY --from=a /out /out
RUN cat /out >/done
`)
	id, _ := buildOf(t, bed.cli, dir)
	rewrite(t, dir, "in", "2\n")
	again, cached := buildOf(t, bed.cli, dir)
	if again != id || cached != "c--ccc" {
		t.Errorf("another input with the same output: cached %s, want c--ccc; %s, was %s", cached, again, id)
	}
	rewrite(t, dir, "in", "1\n2\n")
	if other, cached := buildOf(t, bed.cli, dir); other == id || cached != "c--c--" {
		t.Errorf("another output: cached %s, want c--c--; %s, was %s", cached, other, id)
	}
}

// The cache is there after a restart of brigd, after its death, and gone when it is pruned.
func TestBuildCacheLives(t *testing.T) {
	s, cli := daemon(t)
	dir := buildDir(t, "a", "a\n", "Dockerfile", "FROM "+image("busybox")+"\nRUN echo one >/one\nCOPY a /a\nENV A=b\n")
	id, cached := buildOf(t, cli, dir, "-t", "lives")
	equal(t, "first", cached, "---")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	again, cached := buildOf(t, cli, dir, "-t", "lives")
	equal(t, "after a restart", cached+" "+again, "ccc "+id)
	s.Kill()
	start(t, s)
	again, cached = buildOf(t, cli, dir, "-t", "lives")
	equal(t, "after a kill", cached+" "+again, "ccc "+id)

	done(t, cli, "builder", "prune", "-f")
	again, cached = buildOf(t, cli, dir, "-t", "lives")
	equal(t, "what an image was built by is not pruned without -a", cached+" "+again, "ccc "+id)
	done(t, cli, "rmi", "lives")
	_, cached = buildOf(t, cli, dir)
	equal(t, "the image is gone, its steps aren't", cached, "ccc")
	done(t, cli, "image", "prune", "-f")
	done(t, cli, "builder", "prune", "-af")
	match(t, "system df", done(t, cli, "system", "df"), `Build Cache +0 +0 +0B +0B`)
	_, cached = buildOf(t, cli, dir, "-t", "lives")
	equal(t, "after a prune", cached, "---")
	equal(t, "the image", done(t, cli, "run", "--rm", "lives", "cat", "/one", "/a"), "one\na")
	healthy(t, s.Host)
	match(t, "system df", done(t, cli, "system", "df"), `Build Cache +[1-9]`)
	done(t, cli, "rmi", "lives")
	done(t, cli, "builder", "prune", "-af")
	if out, code := brigOn(t, s.Host, "gc"); code != 0 || !strings.Contains(out, "removed 0 layers") {
		t.Errorf("a prune leaves something to gc: %s", out)
	}
}

// --cache-from names images whose steps may be taken, even those that the cache itself doesn't have any more.
func TestBuildCacheFrom(t *testing.T) {
	mark := fresh("from")
	dir := buildDir(t, "Dockerfile", fmt.Sprintf("FROM %s\nLABEL mark=%s\nRUN echo x >/x\n", image("busybox"), mark))
	id, _ := buildOf(t, bed.cli, dir, "-t", mark)
	t.Cleanup(func() { docker(t, "rmi", "-f", mark) })
	again, cached := buildOf(t, bed.cli, dir, "--cache-from", mark)
	equal(t, "from an image", cached+" "+again, "cc "+id)
	_, cached = buildOf(t, bed.cli, dir, "--cache-from", image("user"))
	equal(t, "from another image", cached, map[bool]string{true: "cc", false: "--"}[bed.server.Owned]) // dockerd: that alone; BuildKit and brig: that too
	_, cached = buildOf(t, bed.cli, dir, "--cache-from", "no/such:image")
	equal(t, "from one that isn't here", cached, map[bool]string{true: "cc", false: "--"}[bed.server.Owned])
}
