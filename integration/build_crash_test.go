package integration

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const crashDockerfile = `FROM BASE
RUN --mount=type=cache,target=/c echo cached >>/c/f && echo run >/run-made
ENV MADE=env
COPY file /copied
RUN rm /run-made && echo more >/more
CMD cat /copied /more
`

// buildDeeds are what brigd is asked for: an image is built, its layers are packed, and all of it goes.
func buildDeeds(t *testing.T) []func(*world) bool {
	dir := t.TempDir()
	for name, body := range map[string]string{"Dockerfile": strings.Replace(crashDockerfile, "BASE", image("busybox"), 1), "file": "copied\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	context := string(contextTar(t, dir))
	builds := func(w *world) bool {
		status, answer, acked := w.call("POST", "/build?t=crash:t", context)
		if acked && (status != 200 || !strings.Contains(string(answer), "Successfully tagged crash:t")) {
			t.Fatalf("build: %d %s", status, answer)
		}
		return acked
	}
	return []func(*world) bool{builds, request("GET", "/images/crash:t/get", ""), request("DELETE", "/images/crash:t", ""), request("POST", "/build/prune?all=1", "")}
}

// What a build is for stays once it has been acknowledged, and whatever it was that a kill interrupted can be done again and goes in the end.
func TestKilledAtEveryStepOfABuild(t *testing.T) {
	own(t)
	w := newWorld(t, faultBin(t))
	deeds := buildDeeds(t)
	play := func() (acked int) {
		for _, do := range deeds {
			if !do(w) {
				break
			}
			acked++
		}
		return acked
	}
	if err := os.Truncate(w.passed, 0); err != nil {
		t.Fatal(err)
	}
	if n := play(); n != len(deeds) {
		t.Fatalf("brigd died undisturbed, after %d deeds", n)
	}
	w.clear()
	text, err := os.ReadFile(w.passed)
	if err != nil {
		t.Fatal(err)
	}
	points := strings.Fields(string(text))
	slices.Sort(points)
	points = slices.DeleteFunc(slices.Compact(points), func(p string) bool {
		thing, _, _ := strings.Cut(p, ".") // a RUN's container and its network are tried as those of all containers are
		return slices.Contains([]string{"container", "end", "jail", "net", "netns", "start", "step", "veth"}, thing)
	})
	t.Logf("%d points: %s", len(points), strings.Join(points, " "))
	for _, own := range []string{"tree.taken", "tree.committed", "cachedir.made", "steps.synced", "steps.recorded", "build.recorded", "layer.packed", "tars.recorded", "steps.pruned"} {
		if !slices.Contains(points, own) {
			t.Errorf("%s is not passed", own)
		}
	}
	for _, point := range points {
		if t.Failed() {
			return
		}
		if err := os.WriteFile(w.trap, []byte(point), 0o600); err != nil {
			t.Fatal(err)
		}
		acked := play()
		os.Remove(w.trap)
		if acked < len(deeds) {
			select {
			case <-w.Gone():
				start(t, w.Server)
			case <-time.After(patience):
				t.Fatalf("at %s: no answer to deed %d, but brigd lives", point, acked)
			}
		} else {
			t.Logf("%s was not passed", point)
		}
		t.Run(point, func(t *testing.T) {
			defer func(outer *testing.T) {
				w.t = outer
				if t.Failed() {
					t.Logf("after %d deeds\n%s", acked, warnings(w.Log))
				}
			}(w.t)
			w.t = t
			w.rebuilt(deeds, acked)
		})
	}
	w.whole()
}

// rebuilt checks what a kill after so many deeds left, and does the deeds again.
func (w *world) rebuilt(deeds []func(*world) bool, acked int) {
	w.t.Helper()
	w.standing()
	if s := w.subject(); s != nil {
		w.t.Errorf("a container is left: %+v", s)
	}
	runs := func() {
		w.t.Helper()
		equal(w.t, "what was built", done(w.t, w.cli, "run", "--rm", "crash:t"), "copied\nmore")
	}
	// Built and not yet being removed it is there; else if it is, it is whole.
	if acked == 1 || done(w.t, w.cli, "images", "-q", "crash:t") != "" {
		runs()
	}
	for n, do := range deeds {
		if !do(w) {
			w.t.Fatal("brigd died undisturbed")
		}
		if n < 2 {
			runs()
		}
	}
	w.clear()
}
