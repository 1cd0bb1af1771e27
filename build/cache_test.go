package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// steps is how each step of a report went: c from the cache, r run (or done), in order. FROM and global ARG are left out.
func steps(text string) string {
	var out strings.Builder
	for _, s := range strings.Split(text, "Step ")[1:] {
		_, what, _ := strings.Cut(s, " : ")
		switch {
		case strings.HasPrefix(what, "FROM"):
			out.WriteByte('|')
		case strings.Contains(what, "\n ---> Using cache\n"):
			out.WriteByte('c')
		default:
			out.WriteByte('r')
		}
	}
	return out.String()
}

// TestCache changes one thing at a time, and expects that what follows is done again, and nothing else.
func TestCache(t *testing.T) {
	w := newWorld(t)
	const df = "FROM bb AS one\nARG A=1\nRUN write /1 x\nCOPY a /a\nLABEL l=1\nRUN write /2 x\nFROM bb\nCOPY --from=one /a /b\nRUN write /3 x"
	files := map[string]string{"a": "A", "b": "B"}
	value := "2"
	first := w.try(df, files).ok()
	if got := steps(first.text); got != "|rrrrr|rr" {
		t.Fatalf("%s\n%s", got, first.text)
	}
	type change = func(*brig.BuildRequest)
	touch := func(r *brig.BuildRequest) {
		later := time.Now().Add(time.Hour)
		if err := os.Chtimes(filepath.Join(r.Context, "a"), later, later); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, from, to string
		files          map[string]string
		change         change
		want           string
	}{
		{"nothing", "", "", nil, nil, "|ccccc|cc"},
		{"a time", "", "", nil, touch, "|ccccc|cc"},
		{"a file that isn't copied", "", "", map[string]string{"b": "other"}, nil, "|ccccc|cc"},
		{"a file", "", "", map[string]string{"a": "other"}, nil, "|ccrrr|rr"},
		{"a file's mode", "", "", nil, func(r *brig.BuildRequest) { os.Chmod(filepath.Join(r.Context, "a"), 0o755) }, "|ccrrr|rr"},
		{"a label", "l=1", "l=2", nil, nil, "|cccrr|cc"}, // what the last stage copies is the same
		{"an argument", "", "", nil, func(r *brig.BuildRequest) { r.Args = map[string]*string{"A": &value} }, "|crrrr|cc"},
		{"an argument that nobody declares", "", "", nil, func(r *brig.BuildRequest) { r.Args = map[string]*string{"X": &value} }, "|ccccc|cc"},
		// dockerd, too, tells a RUN that sees nothing but proxies from one that sees no argument at all: its history begins with |0.
		{"a proxy", "", "", nil, func(r *brig.BuildRequest) { r.Args = map[string]*string{"HTTP_PROXY": &value} }, "|ccccc|cr"},
		{"chmod", "COPY a", "COPY --chmod=600 a", nil, nil, "|ccrrr|rr"},
		{"the destination", "COPY a /a", "COPY a /./a", nil, nil, "|ccrrr|cc"},
		{"network", "RUN write /2 x", "RUN --network=none write /2 x", nil, nil, "|ccccr|cc"},
		{"memory", "", "", nil, func(r *brig.BuildRequest) { r.Limits.Memory = 1 << 30 }, "|ccccc|cc"},
		{"no cache", "", "", nil, func(r *brig.BuildRequest) { r.NoCache = true }, "|rrrrr|rr"},
		{"after no cache", "", "", nil, nil, "|ccccc|cc"},
	} {
		all := map[string]string{"a": "A", "b": "B"}
		for k, v := range c.files {
			all[k] = v
		}
		change := c.change
		if change == nil {
			change = func(*brig.BuildRequest) {}
		}
		got := w.try(strings.Replace(df, c.from, c.to, 1), all, change).ok()
		if s := steps(got.text); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
		if c.name == "nothing" && got.id != first.id {
			t.Errorf("built again: %s, was %s", got.id, first.id)
		}
	}
}

// TestCacheStandsOnWhatWasThere: a step that was done again has another file system, so what stood on the old one is done again too.
func TestCacheStandsOnWhatWasThere(t *testing.T) {
	w := newWorld(t)
	const df = "FROM bb\nRUN write /1 x\nRUN write /2 x"
	first := w.try(df, nil).ok()
	for k, s := range w.steps { // the first RUN has been pruned
		if strings.Contains(s.By, "/1") {
			delete(w.steps, k)
		}
	}
	again := w.try(df, nil).ok()
	if s := steps(again.text); s != "|rr" {
		t.Errorf("%s\n%s", s, again.text)
	}
	if again.image.Steps[1].Parent != again.image.Steps[0].Chain || again.id == first.id {
		t.Errorf("%+v", again.image.Steps)
	}
}

func TestCacheFrom(t *testing.T) {
	w := newWorld(t)
	const df = "FROM bb\nRUN write /1 x\nCOPY a /a\nLABEL l=1\nRUN write /2 x"
	files := map[string]string{"a": "A"}
	first := w.try(df, files).ok()
	w.steps = map[string]brig.Step{} // another machine's
	from := func(r *brig.BuildRequest) { r.CacheFrom = []string{"nosuch", string(first.id)} }
	if got := w.try(df, files, func(r *brig.BuildRequest) { from(r); r.NoCache = true }).ok(); steps(got.text) != "|rrrr" {
		t.Error(got.text)
	}
	w.steps = map[string]brig.Step{}
	changed := w.try(strings.Replace(df, "l=1", "l=2", 1), files, from).ok()
	if s := steps(changed.text); s != "|ccrr" {
		t.Errorf("%s\n%s", s, changed.text)
	}
	same := w.try(df, files, from).ok()
	if s := steps(same.text); s != "|cccc" || same.list("1") != first.list("1") {
		t.Errorf("%s\n%s", s, same.text)
	}
	if got := w.try(df, files).ok(); steps(got.text) != "|cccc" {
		t.Errorf("what an image gave isn't kept:\n%s", got.text)
	}
}

// TestParallelBuilds: eight builds of one Dockerfile at once carry out each step once, and make one image.
func TestParallelBuilds(t *testing.T) {
	w := newWorld(t)
	dir := w.files(map[string]string{"Dockerfile": "FROM bb AS a\nRUN write /1 x\nFROM bb\nRUN write /2 x\nCOPY --from=a /1 /3\nRUN write /4 y", "f": "F"})
	b := w.builder()
	ids := make([]brig.Digest, 8)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			id, err := b.Build(t.Context(), brig.BuildRequest{Context: dir}, func(brig.BuildLine) {})
			if err != nil {
				t.Error(err)
			}
			ids[i] = id
		})
	}
	all.Wait()
	if len(slices.Compact(ids)) != 1 {
		t.Errorf("%v", ids)
	}
	if len(w.ran) != 3 {
		t.Errorf("%d runs, want 3", len(w.ran))
	}
	if w.ends != 8 {
		t.Errorf("%d of 8 sessions ended", w.ends)
	}
}

// TestStagesInParallel: stages that don't need each other run at once, and are told one after the other.
func TestStagesInParallel(t *testing.T) {
	w := newWorld(t)
	var both sync.WaitGroup
	both.Add(2)
	w.gate = func(ctx context.Context, line string) error {
		if strings.HasPrefix(line, "echo meet") {
			both.Done()
			both.Wait() // for ever, if they come one after the other
		}
		return nil
	}
	got := w.try("FROM bb AS a\nRUN echo meet first\nRUN write /a x\nFROM bb AS b\nRUN echo meet second\nRUN write /b x\nFROM bb\nRUN echo third\nCOPY --from=a /a /\nCOPY --from=b /b /", nil).ok()
	var order []string
	for line := range strings.Lines(got.text) {
		if strings.HasPrefix(line, "Step") || !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "Removing") {
			f := strings.Fields(line)
			order = append(order, f[len(f)-1])
		}
	}
	want := "a first first x b second second x bb third third / /"
	if s := strings.Join(order[:len(order)-1], " "); s != want {
		t.Errorf("%s, want %s\n%s", s, want, got.text)
	}
	if l := got.list("a") + got.list("b"); !strings.Contains(l, "/a -rw") || !strings.Contains(l, "/b -rw") {
		t.Error(l)
	}
}

// TestFirstFailureIsTold: of stages that run at once, the first in the file that fails is the one that is told, with all that stands before it; and a stage
// that nobody needs is not built.
func TestFirstFailureIsTold(t *testing.T) {
	w := newWorld(t)
	second := make(chan struct{})
	w.gate = func(ctx context.Context, line string) error {
		switch {
		case strings.HasPrefix(line, "echo slow"):
			<-second
		case strings.HasPrefix(line, "echo quick"):
			defer close(second)
		case strings.HasPrefix(line, "echo endless"):
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	got := w.try("FROM bb AS no\nRUN exit 9\nFROM bb AS a\nRUN echo slow\nRUN exit 3\nFROM bb AS b\nRUN echo quick\nRUN exit 4\nFROM bb AS c\nRUN echo endless\nFROM bb\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY --from=c /c /", nil)
	var failed *brig.RunFailed
	if !errors.As(got.err, &failed) || failed.Code != 3 || failed.Error() != "The command '/bin/sh -c exit 3' returned a non-zero code: 3" {
		t.Errorf("%v", got.err)
	}
	if strings.Contains(got.text, "quick") || strings.Contains(got.text, "exit 9") || !strings.Contains(got.text, "slow\n") {
		t.Error(got.text)
	}
}

// TestCancel: when the client goes, what runs is ended, and no tree or session stays.
func TestCancel(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.gate = func(ctx context.Context, line string) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	dir := w.files(map[string]string{"Dockerfile": "FROM bb\nLABEL a=b\nRUN echo x\nRUN echo y"})
	got := w.run(ctx, w.builder(), brig.BuildRequest{Context: dir, Tags: []string{"t"}})
	if !errs.Is(got.err, errs.Canceled) || w.ends != 1 || len(w.images) != 0 || len(w.ran) != 1 {
		t.Errorf("%v, %d ends, %d images, %d runs", got.err, w.ends, len(w.images), len(w.ran))
	}
	if list, _ := filepath.Glob(filepath.Join(w.dir, "brig-build-*")); len(list) != 0 {
		t.Errorf("left: %v", list)
	}
}

// TestEpoch: with it nothing in the image tells when it was built.
func TestEpoch(t *testing.T) {
	w := newWorld(t)
	when := time.Unix(1000, 0).UTC()
	got := w.try("FROM bb\nRUN write /1 x\nLABEL a=b", nil, func(r *brig.BuildRequest) { r.Epoch = &when }).ok()
	if got.image.Epoch == nil || !got.image.Created.Equal(when) || !got.image.Steps[0].Created.Equal(when) || !got.image.Steps[1].Created.Equal(when) {
		t.Errorf("%+v", got.image)
	}
}
