package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// An eventRow is a step of TestEventTable: a docker command, or a raw request if do begins with a method.
type eventRow struct {
	do    string // $ID is the container ev-1, $TMP a folder
	until string // "type action" that the step surely ends with, where the command may return before
	stdin string
	said  string // what ev-1's log has in the end
}

// eventRows is a life of everything that has events. What a step makes for the next is named ev-…
func eventRows() []eventRow {
	return []eventRow{
		{do: "pull -q $REG/busybox"},
		{do: "tag $REG/busybox ev-img:1"},
		{do: "tag $REG/busybox ev-img:1"},
		{do: "tag $REG/busybox ev-img:2"},
		{do: "rmi ev-img:2"},
		{do: "volume create ev-vol"},
		{do: "volume create ev-vol"},
		{do: "create --name ev-1 --label b=2 --label evt=1 -v ev-vol:/v -v $TMP:/host -v /anonymous ev-img:1 sh -c 'trap : USR1 TERM; echo ready; while :; do sleep 0.1; done'"},
		{do: "rename ev-1 ev-one"},
		{do: "rename ev-one ev-1"},
		{do: "start ev-1"},
		{do: "start ev-1"},
		{do: "exec ev-1 true", until: "container exec_die"},
		{do: "exec ev-1 sh -c 'exit 3'", until: "container exec_die"},
		{do: "exec ev-1 nosuch"},
		{do: "exec -d ev-1 true", until: "container exec_die"},
		{do: "exec -i ev-1 cat", stdin: "x", until: "container exec_die"},
		{do: "POST /containers/ev-1/resize?h=20&w=30"},
		{do: "top ev-1"},
		{do: "stats --no-stream ev-1"},
		{do: "logs ev-1"},
		{do: "diff ev-1"},
		{do: "port ev-1"},
		{do: "cp ev-1:/etc/passwd $TMP/passwd"},
		{do: "cp $TMP/passwd ev-1:/tmp/passwd"},
		{do: "HEAD /containers/ev-1/archive?path=/etc"},
		{do: "export -o $TMP/tar ev-1"},
		{do: "pause ev-1"},
		{do: "unpause ev-1"},
		{do: "update --memory 64m --memory-swap 64m ev-1"},
		{do: "kill -s USR1 ev-1"},
		{do: "commit -m words --change 'LABEL evt=1' ev-1 ev-made:1"},
		{do: "commit --pause=false ev-1"},
		{do: "rm ev-1"},
		{do: "stop -t 1 ev-1"},
		{do: "stop -t 1 ev-1"},
		{do: "start ev-1", said: "ready\nready"},
		{do: "restart -t 1 ev-1"},
		{do: "kill ev-1", until: "container die"},
		{do: "restart -t 1 ev-1"},
		{do: "rm -f -v ev-1"},
		{do: "run --rm --name ev-2 ev-img:1 sh -c 'exit 4'"},
		{do: "run --rm -i --name ev-2 ev-img:1 cat", stdin: "x"},
		{do: "run --rm --name ev-2 -v ev-vol:/v:ro -v ev-new:/n --mount type=tmpfs,target=/t ev-img:1 true"},
		{do: "run --rm --name ev-2 --network host ev-img:1 true"},
		{do: "run --rm --name ev-2 --network none ev-img:1 true"},
		{do: "run --name ev-2 ev-img:1 nosuch"},
		{do: "rm ev-2"},
		{do: "run --rm --name ev-2 ev-img:1 /etc"},
		{do: "run -d --name ev-2 --restart on-failure:1 ev-img:1 sh -c 'sleep 0.2; exit 1'", until: "network disconnect 2"},
		{do: "wait ev-2"},
		{do: "rm ev-2"},
		{do: "run -d -it --name ev-2 ev-img:1 sh -c 'trap \"exit 0\" TERM; while :; do sleep 0.1; done'"},
		{do: "DETACH ev-2"},
		{do: "run --rm --name ev-3 --network container:ev-2 ev-img:1 true"},
		{do: "POST /containers/ev-2/resize?h=20&w=30"},
		{do: "stop -t 10 ev-2"},
		{do: "rm ev-2"},
		{do: "run -d --name ev-2 --health-cmd true --health-interval 3s ev-img:1 sleep 600", until: "container health_status: healthy"},
		{do: "rm -f ev-2"},
		{do: "create --name ev-2 --label evt=1 ev-img:1 true"},
		{do: "MARK"},
		{do: "run -d --name ev-3 --label a=1 --label b=x=y -v /anonymous ev-img:1 sleep 600"},
		{do: "exec ev-3 true", until: "container exec_die"},
		{do: "rm -f -v ev-3"},
		{do: "tag ev-img:1 ev-imp:1"},
		{do: "rmi ev-imp:1"},
		{do: "PAST"},
		{do: "PAST type=container"},
		{do: "PAST type=image type=volume"},
		{do: "PAST type=nosuch"},
		{do: "PAST event=die event=destroy"},
		{do: "PAST event=exec_create"},
		{do: "PAST event=exec_create:"},
		{do: "PAST event=exec_start event=start"},
		{do: "PAST container=ev-3"},
		{do: "PAST container=ev-"},
		{do: "PAST container=v-3"},
		{do: "PAST container=$EV3"},
		{do: "PAST container=ev-3 event=die type=container"},
		{do: "PAST container=ev-3 type=image"},
		{do: "PAST container=ev-3 image=ev-img"},
		{do: "PAST image=ev-img"},
		{do: "PAST image=ev-img:1"},
		{do: "PAST image=ev-img:2"},
		{do: "PAST image=ev-imp:1"},
		{do: "PAST label=a"},
		{do: "PAST label=a=1 label=b"},
		{do: "PAST label=a=1 label=c"},
		{do: "PAST label=b=x"},
		{do: "PAST label=b=x=y"},
		{do: "PAST network=bridge"},
		{do: "PAST network=nosuch"},
		{do: "PAST volume=nosuch"},
		{do: "PAST volume=nosuch container=ev-3"},
		{do: "PAST daemon=x"},
		{do: "PAST scope=local event=start"},
		{do: "PAST scope=swarm"},
		{do: "PAST plugin=x"},
		{do: "PAST node=x"},
		{do: "PAST service=x"},
		{do: `POST /containers/prune?filters={"label":["evt"]}`},
		{do: "volume create --label evt=1 ev-lab"},
		{do: `POST /volumes/prune?filters={"label":["evt"]}`},
		{do: `POST /networks/prune?filters={"label":["evt"]}`},
		{do: "volume rm ev-new"},
		{do: "create --name ev-2 -v ev-vol:/v ev-img:1 true"},
		{do: "volume rm ev-vol"},
		{do: "rm ev-2"},
		{do: "volume rm ev-vol"},
		{do: "save -o $TMP/save ev-img:1"},
		{do: "save -o $TMP/save2 ev-img:1 ev-made:1"},
		{do: "load -i $TMP/save"},
		{do: "import $TMP/tar ev-imp:1"},
		{do: "import $TMP/tar"},
		{do: "tag ev-made:1 $REG/ev-pushed:1"},
		{do: "push -q $REG/ev-pushed:1"},
		{do: "rmi $REG/ev-pushed:1"},
		{do: "rmi ev-made:1"},
		{do: "load -i $TMP/save2"},
		{do: "pull -q $REG/ev-pushed:1"},
		{do: "rmi -f $REG/ev-pushed:1 ev-made:1"},
		{do: "pull -q $REG/layers"},
		{do: "pull -q $REG/busybox@$DIGEST"},
		{do: "rmi $REG/busybox@$DIGEST"},
		{do: "tag ev-imp:1 ev-imp:2"},
		{do: "rmi -f $IMP"},
		{do: `POST /images/prune?filters={"label":["evt"]}`},
		{do: "tag $REG/busybox ev-imp:1"},
		{do: "rmi ev-imp:1"},
		{do: "rmi ev-img:1"},
		{do: "image inspect $REG/busybox"},
		{do: "login -u u -p p $REG"},
	}
}

// eventDiffers says why brig's events of some steps are others than dockerd 20.10's.
var eventDiffers = []struct{ step, why string }{
	{`^volume create ev-vol \(2\)$|^create --name ev-. .*-v ev-vol|^run .* -v ev-vol`, "dockerd 20.10 says that a volume is created also where it is there; later daemons say it once, as brig"},
	{`^cp |^HEAD `, "dockerd mounts the container's volumes for an access to its files; brig mounts nothing for it"},
	{`^network disconnect .*ev-1( \(\d\))?$`, "dockerd tells twice that a running container leaves a network"},
	{`^POST /volumes/prune`, "later daemons tell of each volume that a prune removes, as brig"},
}

// lateAttribute is one that later daemons have and dockerd 20.10 hasn't: how long the container ran, in seconds.
const lateAttribute = `"execDuration":"<number>",`

// sameEvents reports whether two records say the same, but for lateAttribute.
func sameEvents(a, b string) bool {
	return strings.ReplaceAll(a, lateAttribute, "") == strings.ReplaceAll(b, lateAttribute, "")
}

// TestEventTable does one thing after the other and compares the events of each, in their order and with all their fields, with what was
// recorded of brig and of dockerd 20.10 (testdata/events-brig.txt and events-dockerd.txt). Where the two records differ, eventDiffers must
// say why. BRIG_TEST_RECORD=1 records anew the events of the server that runs.
func TestEventTable(t *testing.T) { eventTable(t, "", eventRows()) }

// eventTable does the rows and compares. what is part of the names of the records' files.
func eventTable(t *testing.T, what string, rows []eventRow) {
	mine, other := "testdata/events-"+what+"brig.txt", "testdata/events-"+what+"dockerd.txt"
	if !bed.server.Owned {
		mine, other = other, mine
	}
	record := os.Getenv("BRIG_TEST_RECORD") != ""
	recorded, theirs := readRecord(t, mine), readRecord(t, other)
	w := watchEvents(t)
	var text bytes.Buffer
	seen := map[string]int{}
	for _, row := range rows {
		title := row.do
		if seen[title]++; seen[title] > 1 {
			title = fmt.Sprintf("%s (%d)", row.do, seen[title])
		}
		got := w.step(row)
		fmt.Fprintf(&text, "== %s\n%s\n", title, got)
		if record {
			continue
		}
		if want := recorded[title]; got != want && !answersElsewise(title, got, want) {
			t.Errorf("%s\ngot\n%s\nwant\n%s", title, got, want)
		}
		if !sameEvents(recorded[title], theirs[title]) && !slices.ContainsFunc(eventDiffers, func(d struct{ step, why string }) bool {
			return regexp.MustCompile(d.step).MatchString(title)
		}) {
			t.Errorf("%s: the records of the two servers differ, and nothing says why\n%s\nand\n%s", title, recorded[title], theirs[title])
		}
	}
	if record {
		if err := os.WriteFile(mine, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A watch listens to all events while a test does things.
type watch struct {
	t     *testing.T
	cli   testbed.CLI
	lines chan string
	mark  time.Time
	vars  map[string]string
}

// watchEvents returns once no event can be missed.
func watchEvents(t *testing.T) *watch {
	t.Helper()
	ctx, cancel := context.WithCancel(bed.ctx)
	w := &watch{t: t, cli: bed.cli, lines: make(chan string, 10_000)}
	w.cli.Env = append(w.cli.Env, "DOCKER_API_VERSION=1.41") // dockerd 20.10's
	ref := ok(t, "image", "inspect", "-f", "{{index .RepoDigests 0}}", image("busybox"))
	_, digest, _ := strings.Cut(ref, "@")
	w.vars = map[string]string{"$REG": bed.reg, "$TMP": t.TempDir(), "$DIGEST": digest}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://d/v1.41/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := testbed.Client(bed.server.Host)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		in := bufio.NewScanner(resp.Body)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			w.lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		resp.Body.Close()
		client.CloseIdleConnections()
		for _, ref := range []string{"ev-mark:1", "ev-img:1", "ev-made:1", "ev-imp:1", "ev-imp:2", image("ev-pushed:1")} {
			docker(t, "rmi", "-f", ref)
		}
		docker(t, "rm", "-f", "-v", "ev-1", "ev-2", "ev-3")
		docker(t, "image", "prune", "-f")         // of a commit and an import without names
		docker(t, "pull", "-q", image("busybox")) // the digest's name again
		docker(t, "volume", "rm", "-f", "ev-vol", "ev-new", "ev-lab")
	})
	ok(t, "image", "tag", image("busybox"), "ev-mark:0")
	ok(t, "image", "rm", "ev-mark:0")
	return w
}

// step does it and returns the events until now, one a line.
func (w *watch) step(row eventRow) string {
	w.t.Helper()
	do := row.do
	for name, value := range w.vars {
		do = strings.ReplaceAll(do, name, value)
	}
	if strings.Contains(do, "$IMP") {
		do = strings.ReplaceAll(do, "$IMP", ok(w.t, "image", "inspect", "-f", "{{.Id}}", "ev-imp:1"))
	}
	if args, is := strings.CutPrefix(do, "PAST"); is {
		return w.past(strings.Fields(args))
	}
	w.act(do, row.stdin)
	if row.said != "" {
		logged(w.t, "ev-1", row.said)
	}
	var out []string
	if row.until != "" {
		times := 1
		if n := strings.TrimRight(row.until, "0123456789"); n != row.until {
			fmt.Sscan(row.until[len(n):], &times)
			row.until = strings.TrimSpace(n)
		}
		for times > 0 {
			line, what := w.next(do)
			out = append(out, line)
			if what == row.until {
				times--
			}
		}
	}
	// A tag that is surely the last event of what is done by now.
	ok(w.t, "tag", image("busybox"), "ev-mark:1")
	for {
		line, _ := w.next(do)
		if strings.Contains(line, "ev-mark:1") {
			sortRuns(out)
			return strings.Join(out, "\n")
		}
		out = append(out, line)
	}
}

// sortRuns sorts events of volumes, and of networks, that follow each other with one action, which dockerd takes in an order of chance.
func sortRuns(lines []string) {
	kind := regexp.MustCompile(`"Type":"(volume|network)"`)
	key := func(line string) string {
		action, _, _ := strings.Cut(line, ",")
		if k := kind.FindString(line); k != "" {
			return k + action
		}
		return ""
	}
	for from := 0; from < len(lines); from++ {
		to := from
		for to < len(lines) && key(lines[to]) != "" && key(lines[to]) == key(lines[from]) {
			to++
		}
		if to > from {
			slices.Sort(lines[from:to])
			from = to - 1
		}
	}
}

func (w *watch) act(do, stdin string) {
	w.t.Helper()
	words := split(do)
	switch words[0] {
	case "POST", "HEAD":
		s := apiSession{t: w.t}
		s.exchange(words[0], "/v1.41"+strings.ReplaceAll(words[1], `"`, "%22"), "application/json", "")
	case "MARK":
		w.mark = time.Now()
	case "DETACH":
		detach(w.t, words[1])
	default:
		dockerOn(w.t, w.cli, strings.NewReader(stdin), words...) // its exit code is not what is looked at
	}
}

// past is the types and actions of the events since the mark that the filters (KEY=VALUE) let pass. $EV3 becomes the start of a container's ID.
func (w *watch) past(filters []string) string {
	w.t.Helper()
	args := []string{"events", "--since", w.mark.Format(time.RFC3339Nano), "--until", time.Now().Format(time.RFC3339Nano), "--format", "{{.Type}} {{.Action}} {{.Actor.ID}}"}
	for _, f := range filters {
		args = append(args, "--filter", f)
	}
	r := dockerOn(w.t, w.cli, nil, args...)
	if r.Code != 0 {
		return r.Err
	}
	if id := regexp.MustCompile(`container create (.{13})`).FindStringSubmatch(r.Out); id != nil {
		w.vars["$EV3"] = id[1]
	}
	return steady(strings.TrimSpace(r.Out))
}

// split cuts at blanks; '…' holds words together.
func split(s string) (words []string) {
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

// detach attaches to a container with a terminal and sends the keys that end it.
func detach(t *testing.T, id string) {
	t.Helper()
	c := dial(t, bed.server)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "POST /v1.41/containers/%s/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", id)
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, " 101 ") {
		t.Fatalf("attach: %q, %v", line, err)
	}
	fmt.Fprint(c, "\x10\x11") // Ctrl-P, Ctrl-Q
	if b, err := r.ReadString(0); !errors.Is(err, io.EOF) {
		t.Errorf("after the keys: %q, %v", b, err)
	}
}

// next is the next event as a line of JSON with sorted keys, and its type and action.
func (w *watch) next(do string) (line, what string) {
	w.t.Helper()
	select {
	case line = <-w.lines:
	case <-time.After(patience):
		w.t.Fatalf("%s: no event comes", do)
	}
	var v map[string]any
	d := json.NewDecoder(strings.NewReader(line))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		w.t.Fatalf("%s: %v", line, err)
	}
	what = fmt.Sprint(v["Type"], " ", v["Action"])
	if actor, _ := v["Actor"].(map[string]any); actor != nil {
		at, _ := actor["Attributes"].(map[string]any)
		for _, k := range []string{"execDuration", "reclaimed"} { // the host's, or the moment's
			if at[k] != nil {
				at[k] = "<number>"
			}
		}
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(steadyJSON("", v, false)); err != nil {
		w.t.Fatal(err)
	}
	line = strings.TrimSpace(b.String())
	return strings.ReplaceAll(line, filepath.Clean(w.vars["$TMP"]), "<tmp>"), what
}
