package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// A step of the life that brigd is killed in: one request, and what is there once it has been acknowledged.
type step struct {
	method, path string
	body         string
	makes, takes string // image, volume, container
}

// lifeSteps are a pull, a volume, a container that runs, and the removal of all. NAME is the image's.
func lifeSteps(ref string) []step {
	repo, tag := ref, "latest"
	return []step{
		{method: "POST", path: "/images/create?fromImage=" + url.QueryEscape(repo) + "&tag=" + tag, makes: "image"},
		{method: "POST", path: "/volumes/create", body: `{"Name":"vol"}`, makes: "volume"},
		{method: "POST", path: "/containers/create?name=ct", body: fmt.Sprintf(`{"Image":%q,"Cmd":["true"],"HostConfig":{"Binds":["vol:/vol"]}}`, ref), makes: "container"},
		{method: "POST", path: "/containers/ct/start"},
		{method: "POST", path: "/containers/ct/wait"},
		{method: "DELETE", path: "/containers/ct", takes: "container"},
		{method: "DELETE", path: "/volumes/vol", takes: "volume"},
		{method: "DELETE", path: "/images/" + ref, takes: "image"},
	}
}

// do makes one request and reads its answer to the end; acknowledged is false if that was cut short.
func do(s *testbed.Server, st step) (acknowledged bool, err error) {
	client := testbed.Client(s.Host)
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, st.method, "http://d"+st.path, strings.NewReader(st.body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return false, nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return false, nil
	}
	if resp.StatusCode >= 400 || bytes.Contains(b, []byte(`"errorDetail"`)) {
		return false, fmt.Errorf("%s %s: %d %s", st.method, st.path, resp.StatusCode, b)
	}
	return true, nil
}

// A stage is one brigd with fault points, on a root of its own.
type stage struct {
	*testbed.Server
	t   *testing.T
	ref string
}

func newStage(t *testing.T, bin, ref string) *stage {
	t.Helper()
	dir := filepath.Join(bed.dir, fresh("f"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return &stage{testbed.NewServer(bin, dir, "--shim", filepath.Join(bed.bin, "brig-shim")), t, ref}
}

// live goes through the life until brigd ends. It returns what must be there, and what may be since its step was not acknowledged.
func (s *stage) live() (must map[string]bool, open string) {
	s.t.Helper()
	must = map[string]bool{}
	for _, st := range lifeSteps(s.ref) {
		acknowledged, err := do(s.Server, st)
		if err != nil {
			s.t.Fatal(err)
		}
		if !acknowledged {
			<-s.Gone()
			return must, st.makes + st.takes
		}
		if st.makes != "" {
			must[st.makes] = true
		}
		delete(must, st.takes)
	}
	return must, ""
}

// exists asks brigd for the three.
func (s *stage) exists(what string) bool {
	s.t.Helper()
	path := map[string]string{"image": "/images/" + s.ref + "/json", "volume": "/volumes/vol", "container": "/containers/ct/json"}[what]
	code, _, body, err := s.Get(bed.ctx, path)
	if err != nil || code != 200 && code != 404 {
		s.t.Fatalf("GET %s: %d %s %v", path, code, body, err)
	}
	return code == 200
}

// count is the number of files in a directory beneath the root. A folder of FreeBSD's among them, for mounts of what is there, stays: what is in it counts.
func (s *stage) count(elem ...string) int {
	const own = ".roots"
	list, _ := os.ReadDir(filepath.Join(append([]string{s.Root}, elem...)...))
	if slices.ContainsFunc(list, func(e fs.DirEntry) bool { return e.Name() == own }) {
		return len(list) - 1 + s.count(append(slices.Clone(elem), own)...)
	}
	return len(list)
}

// full is how many layers and blobs the image has.
type full struct{ layers, blobs int }

// check compares what brigd says with what was acknowledged, and the disk with what brigd says; then it takes all away.
func (s *stage) check(must map[string]bool, open string, f full) {
	s.t.Helper()
	is := map[string]int{}
	for _, what := range []string{"image", "volume", "container"} {
		there := s.exists(what)
		if there != must[what] && what != open {
			s.t.Errorf("%s: there %v, want %v", what, there, must[what])
		}
		if there {
			is[what] = 1
		}
	}
	layers := f.layers * max(is["image"], is["container"])
	eventually(s.t, "the store holds what brigd names and nothing else", func() (bool, string) {
		got := []int{s.count("store", "l"), s.count("blobs", "sha256"), s.count("store", "c"), s.count("store", "v"), s.count("store", "w"), s.count("run"), s.count("store", "mnt")}
		want := []int{layers, f.blobs * is["image"], is["container"], is["volume"], 0, 0, 0}
		return slices.Equal(got, want) && s.count("containers") <= is["container"], fmt.Sprintf("layers, blobs, roots, volumes, work, runs, mounts are %v, want %v", got, want)
	})
	if is["container"] == 1 {
		for _, st := range lifeSteps(s.ref)[3:5] { // it runs
			if done, err := do(s.Server, st); !done || err != nil {
				s.t.Errorf("%s %s: %v %v", st.method, st.path, done, err)
			}
		}
	}
	for _, st := range lifeSteps(s.ref)[5:] {
		if is[st.takes] == 1 {
			if done, err := do(s.Server, st); !done || err != nil {
				s.t.Errorf("%s %s: %v %v", st.method, st.path, done, err)
			}
		}
	}
	eventually(s.t, "nothing is left", func() (bool, string) {
		n := []int{s.count("store", "l"), s.count("blobs", "sha256"), s.count("store", "c"), s.count("store", "v"), s.count("store", "w")}
		return slices.Max(n) == 0, fmt.Sprint(n)
	})
	if err := stopServer(s.Server); err != nil {
		s.t.Error(err)
	}
}

// faultBin is the folder of a brigd with fault points.
func faultBin(t *testing.T) string {
	t.Helper()
	return filepath.Dir(built(t, "faults/brigd", "..", nil, "-tags", "faults", "./cmd/brigd"))
}

// brigd is killed between every two steps of a pull, of making and running a container with a volume, and of removing all that. What was
// acknowledged is there and runs, and after the next start there is nothing on disk that nobody names.
func TestKilledBetweenEveryTwoSteps(t *testing.T) {
	own(t)
	bin, ref := faultBin(t), image("layers")
	points, f := recordPoints(t, bin, ref)
	t.Logf("%d points: %s", len(points), strings.Join(points, " "))
	for _, of := range []string{"blob", "work", "layer", "store", "image", "root", "volume", "container", "discard", "unneeded"} {
		if !slices.ContainsFunc(points, func(p string) bool { return strings.HasPrefix(p, of+".") }) {
			t.Errorf("no point of %s was passed", of)
		}
	}
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, bin, ref)
			s.Env = []string{"BRIG_FAULT=" + point}
			must, open := s.killedLife(point)
			s.Env = nil
			start(t, s.Server)
			s.check(must, open, f)
		})
	}
}

// killedLife goes through the life until brigd is killed at the point; for some that is while it starts.
func (s *stage) killedLife(point string) (must map[string]bool, open string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	err := s.Start(ctx)
	s.t.Cleanup(s.Kill)
	if err == nil {
		must, open = s.live()
	}
	select {
	case <-s.Gone():
	default:
		if err != nil {
			s.t.Fatal(err)
		}
		if !isOrderDependent(point) {
			s.t.Error("brigd was not killed")
		}
		s.Kill()
	}
	return must, open
}

// isOrderDependent tells points that background work may pass or not: how often, differs from run to run.
func isOrderDependent(point string) bool { return !strings.HasSuffix(point, ":1") }

// repeated are the points whose last passing is also tried in every run; BRIG_FAULTS=all tries the last of all.
var repeated = []string{"discard.hidden", "unneeded.dropped", "root.mounted"}

// ofRuns are the things whose points belong to a container's run: TestKilledAtEveryStepOfAContainer has them.
var ofRuns = []string{"start", "jail", "end", "net", "netns", "veth", "connect", "disconnect"}

// recordPoints goes through an undisturbed life. It returns each point's first passing, and of some the last.
func recordPoints(t *testing.T, bin, ref string) (points []string, f full) {
	t.Helper()
	s := newStage(t, bin, ref)
	file := filepath.Join(bed.dir, fresh("points"))
	s.Env = []string{"BRIG_FAULT_LOG=" + file}
	start(t, s.Server)
	t.Cleanup(s.Kill)
	if done, err := do(s.Server, lifeSteps(ref)[0]); !done || err != nil {
		t.Fatal(done, err)
	}
	_, _, body, err := s.Get(bed.ctx, "/images/"+ref+"/json")
	var shown struct{ RootFS struct{ Layers []string } }
	if err != nil || json.Unmarshal([]byte(body), &shown) != nil {
		t.Fatal(err, body)
	}
	f = full{len(shown.RootFS.Layers), s.count("blobs", "sha256")}
	if done, err := do(s.Server, lifeSteps(ref)[7]); !done || err != nil {
		t.Fatal(done, err)
	}
	s.Kill()
	os.Remove(file)
	start(t, s.Server)
	if must, open := s.live(); len(must) > 0 || open != "" {
		t.Fatal(must, open)
	}
	if err := stopServer(s.Server); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	var order []string
	for _, name := range strings.Fields(string(text)) {
		if n[name]++; n[name] == 1 {
			order = append(order, name)
		}
	}
	for _, name := range order {
		thing, _, _ := strings.Cut(name, ".")
		if slices.Contains(ofRuns, thing) {
			continue
		}
		points = append(points, name+":1")
		if n[name] > 1 && (os.Getenv("BRIG_FAULTS") == "all" || slices.Contains(repeated, name)) {
			points = append(points, fmt.Sprintf("%s:%d", name, n[name]))
		}
	}
	return points, f
}
