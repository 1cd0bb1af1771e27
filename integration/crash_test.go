package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// A deed is one request of an act, and what is so once it has been acknowledged.
type deed struct {
	do     func(w *world) (acked bool)
	states string // of the container, one of these; "none": there is no container
	via    string // further states while the deed is under way
	code   int    // its exit code, where it has exited
	named  string // its name; "": as before
	image  bool   // from here on there is the commit's image
	net    bool   // there is the network fn
	links  int    // that the container has beyond one, while it runs
}

// An act is a life of one container.
type act struct {
	name  string
	deeds []deed
	again []string // prefixes of points that are tried in this act although an earlier one has tried them
	turns bool     // the container starts and ends by itself: what it has on the host changes all the time
	lines int      // of its log, once it has exited by itself
}

func (d deed) allows(state string) bool { return slices.Contains(strings.Fields(d.states), state) }

// request is a deed's call that must succeed if it is answered.
func request(method, path, body string) func(*world) bool {
	return func(w *world) bool {
		status, answer, acked := w.call(method, path, body)
		if acked && status >= 400 {
			w.t.Fatalf("%s %s: %d %s", method, path, status, answer)
		}
		return acked
	}
}

func creates(script string, host string) func(*world) bool {
	return request("POST", "/containers/create?name=ct", fmt.Sprintf(`{"Image":%q,"Cmd":["sh","-c",%q],"ExposedPorts":{"80/tcp":{}},"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1"}]}%s}}`,
		image("busybox"), script, host))
}

const (
	service   = "trap 'exit 5' TERM; httpd -p 80 -h /etc; while :; do sleep 0.05; done"
	countdown = "i=0; while test $i -lt 300; do echo line $i; i=$((i+1)); done; exit 7"
)

func acts() []act {
	post := func(path string) func(*world) bool { return request("POST", "/containers/ct"+path, "") }
	remove := request("DELETE", "/containers/ct?force=1&v=1", "")
	return append([]act{
		{name: "run", lines: 300, deeds: []deed{
			{do: creates(countdown, `,"Binds":["vol:/vol","/anon"]`), states: "created", named: "/ct"},
			{do: post("/start"), states: "running exited", code: 7},
			{do: post("/wait"), states: "exited", code: 7},
			{do: remove, states: "none"},
			{do: request("DELETE", "/volumes/vol", ""), states: "none"},
		}},
		{name: "service", again: []string{"end.", "jail.shimended"}, deeds: []deed{
			{do: creates(service, ""), states: "created", named: "/ct"},
			{do: post("/start"), states: "running"},
			{do: ready, states: "running"},
			{do: post("/rename?name=ct2"), states: "running", named: "/ct2"},
			{do: request("POST", "/containers/ct2/rename?name=ct", ""), states: "running", named: "/ct"},
			{do: post("/pause"), states: "paused", via: "running"},
			{do: post("/unpause"), states: "running", via: "paused"},
			{do: post("/stop"), states: "exited", code: 5},
			{do: post("/start"), states: "running"},
			{do: post("/kill"), states: "exited", code: 137},
			{do: post("/start"), states: "running"},
			{do: ready, states: "running"},
			{do: post("/restart"), states: "running", via: "exited", code: 5},
			{do: remove, states: "none", via: "exited", code: 137},
		}},
		{name: "exec", deeds: []deed{
			{do: creates(service, ""), states: "created", named: "/ct"},
			{do: post("/start"), states: "running"},
			{do: execs, states: "running"},
			{do: request("POST", "/commit?container=ct&repo=crash&tag=t&pause=1", ""), states: "running", image: true},
			{do: remove, states: "none", via: "exited", code: 137, image: true},
			{do: request("DELETE", "/images/crash:t", ""), states: "none"},
		}},
		{name: "policy", turns: true, again: []string{"end.", "start.recorded"}, deeds: []deed{
			{do: creates("echo x; exit 3", `,"RestartPolicy":{"Name":"always"}`), states: "created", named: "/ct"},
			{do: post("/start"), states: "running restarting", via: "exited", code: 3},
			{do: restarted, states: "running restarting", via: "exited", code: 3},
			{do: post("/stop"), states: "exited", via: "running restarting", code: 3},
			{do: remove, states: "none"},
		}},
		{name: "autoremove", again: []string{"end.", "container.forgotten"}, deeds: []deed{
			{do: creates("exit 4", `,"AutoRemove":true`), states: "created", named: "/ct"},
			{do: post("/start"), states: "running none", via: "exited", code: 4},
			{do: removed, states: "none", via: "running exited", code: 4},
		}},
		{name: "networks", again: []string{"veth.", "net.published"}, deeds: []deed{
			{do: request("POST", "/networks/create", `{"Name":"fn"}`), states: "none", net: true},
			{do: creates(service, `,"NetworkMode":"fn"`), states: "created", named: "/ct", net: true},
			{do: post("/start"), states: "running", net: true},
			{do: ready, states: "running", net: true},
			{do: request("POST", "/networks/bridge/connect", `{"Container":"ct"}`), states: "running", net: true, links: 1},
			{do: ready, states: "running", net: true, links: 1},
			{do: request("POST", "/networks/bridge/disconnect", `{"Container":"ct"}`), states: "running", net: true},
			{do: ready, states: "running", net: true},
			{do: request("POST", "/networks/bridge/connect", `{"Container":"ct"}`), states: "running", net: true, links: 1},
			{do: request("POST", "/networks/fn/disconnect", `{"Container":"ct"}`), states: "running", net: true},
			{do: ready, states: "running", net: true},
			{do: request("DELETE", "/networks/fn", ""), states: "running"},
			{do: remove, states: "none", via: "exited", code: 137},
		}},
		{name: "pod", again: []string{"end.", "net."}, deeds: []deed{
			{do: createsPod, states: "created", named: "/ct-a"},
			{do: request("POST", "/brig/v1/pods/ct/start", ""), states: "running", via: "created"},
			{do: readyPod, states: "running"},
			{do: request("POST", "/brig/v1/pods/ct/stop", ""), states: "exited", code: 5},
			{do: request("POST", "/containers/ct-a/start", ""), states: "running"},
			{do: readyPod, states: "running"},
			{do: request("DELETE", "/brig/v1/pods/ct?force=1", ""), states: "none", via: "exited", code: 137},
		}},
		{name: "failing start", deeds: []deed{
			{do: creates("true", ""), states: "created", named: "/ct"},
			{do: request("DELETE", "/containers/ct", ""), states: "none"},
			{do: request("POST", "/containers/create?name=ct", fmt.Sprintf(`{"Image":%q,"Cmd":["/nosuch"]}`, image("busybox"))), states: "created", named: "/ct"},
			{do: refused, states: "created", via: "exited", code: 127},
			{do: remove, states: "none"},
		}},
	}, buildActs()...)
}

// createsPod makes a pod of one app that is the service.
func createsPod(w *world) bool {
	return request("POST", "/brig/v1/pods", fmt.Sprintf(`{"name":"ct","volumes":["data"],"ports":["web=80:127.0.0.1:%s"],"apps":[{"image":%q,"name":"a","mounts":["data:/data"],"exec":["sh"],"args":["-c",%q]}]}`,
		freePort(w.t), image("busybox"), service))(w)
}

// ready waits until the service answers: then its trap is set, too.
func ready(w *world) bool { return w.answers("ct") }

func readyPod(w *world) bool { return w.answers("ct-a") }

func (w *world) answers(name string) bool {
	for {
		_, answer, acked := w.call("GET", "/containers/"+name+"/json", "")
		var s shown
		if !acked {
			return false
		}
		if err := json.Unmarshal(answer, &s); err != nil {
			w.t.Fatal(err, string(answer))
		}
		if p := s.NetworkSettings.Ports["80/tcp"]; len(p) == 1 && get(w.t, p[0].HostIp+":"+p[0].HostPort) == 404 {
			return true
		}
	}
}

// execs makes an exec in ct and runs it to its end.
func execs(w *world) bool {
	status, answer, acked := w.call("POST", "/containers/ct/exec", `{"Cmd":["sh","-c","echo in"],"AttachStdout":true}`)
	if !acked {
		return false
	}
	var made struct {
		ID string `json:"Id"`
	}
	if json.Unmarshal(answer, &made) != nil || status != http.StatusCreated {
		w.t.Fatalf("exec: %d %s", status, answer)
	}
	status, answer, acked = w.call("POST", "/exec/"+made.ID+"/start", `{"Detach":false}`)
	if acked && (status != 200 || !strings.Contains(string(answer), "in\n")) {
		select {
		case <-w.Gone(): // the stream was cut, which an answer without a length doesn't show
			return false
		case <-time.After(patience):
			w.t.Fatalf("exec: %d %q", status, answer)
		}
	}
	return acked
}

// restarted waits until a policy has started ct twice.
func restarted(w *world) bool {
	for {
		_, answer, acked := w.call("GET", "/containers/ct/json", "")
		var s shown
		if !acked {
			return false
		}
		if err := json.Unmarshal(answer, &s); err != nil {
			w.t.Fatal(err, string(answer))
		}
		if s.RestartCount >= 2 {
			return true
		}
	}
}

// removed waits until ct, which removes itself, is gone.
func removed(w *world) bool {
	status, answer, acked := w.call("POST", "/containers/ct/wait?condition=removed", "")
	if acked && status != 200 && status != 404 || strings.Contains(string(answer), `"Error":{`) {
		w.t.Fatalf("wait: %d %s", status, answer)
	}
	if acked && len(answer) == 0 {
		return false
	}
	return acked
}

// refused starts a container that can't be started.
func refused(w *world) bool {
	status, answer, acked := w.call("POST", "/containers/ct/start", "")
	if acked && status != 400 {
		w.t.Fatalf("start: %d %s", status, answer)
	}
	return acked
}

// play goes through an act until brigd dies; it returns what has been done, and what was being done if brigd died.
func (w *world) play(a act) (last deed, open *deed) {
	w.t.Helper()
	last = deed{states: "none"}
	for i := range a.deeds {
		d := &a.deeds[i]
		if !d.do(w) {
			<-w.Gone()
			return last, d
		}
		if d.named == "" {
			d.named = last.named
		}
		last = *d
	}
	return last, nil
}

// judge compares what a new brigd says and what the host has with what was acknowledged.
func (w *world) judge(a act, last deed, open *deed) {
	w.t.Helper()
	deeds := []deed{last}
	if open != nil {
		o := *open
		o.states += " " + o.via
		deeds = append(deeds, o)
	}
	var s *shown
	state := func() string {
		if s = w.subject(); s == nil {
			return "none"
		}
		return s.State.Status
	}
	eventually(w.t, "the container is in a state that was acknowledged", func() (bool, string) {
		st := state()
		return slices.ContainsFunc(deeds, func(d deed) bool { return d.allows(st) }), st
	})
	if s != nil {
		if s.State.Status == "exited" && !slices.ContainsFunc(deeds, func(d deed) bool { return d.code == s.State.ExitCode }) {
			w.t.Errorf("exit code %d", s.State.ExitCode)
		}
		if !slices.ContainsFunc(deeds, func(d deed) bool { return d.named == s.Name || d.named == "" }) {
			w.t.Errorf("its name is %s", s.Name)
		}
	}
	if last.image && (open == nil || open.image) {
		w.must("GET", "/images/crash:t/json", nil)
	}
	w.standing()
	w.judgeNetwork(last, open)
	if a.turns {
		w.turning(last, open, s)
		return
	}
	w.settle("the host has what the running containers need and nothing else", func() int {
		if st := state(); st == "running" || st == "paused" {
			return 2
		}
		return 1
	}, links(deeds)...)
	w.serves(a, s)
}

// links are how many links beyond one the container may have after these deeds.
func links(deeds []deed) (out []int) {
	for _, d := range deeds {
		out = append(out, d.links)
	}
	return out
}

// judgeNetwork compares the network fn and its bridge with what was acknowledged. A network without containers need not have a bridge.
func (w *world) judgeNetwork(last deed, open *deed) {
	w.t.Helper()
	status, answer, _ := w.call("GET", "/networks/fn", "")
	there := status == 200
	if there != last.net && (open == nil || there != open.net) {
		w.t.Errorf("network fn: %d %s", status, answer)
	}
	if n := w.bridges(); n > 1 || n == 1 && !there {
		w.t.Errorf("%d bridges of users' networks; network fn is there: %v", n, there)
	}
}

// serves looks at the port of a container that runs, and at the log of one that has ended by itself.
func (w *world) serves(a act, s *shown) {
	w.t.Helper()
	if s == nil {
		return
	}
	if p := s.NetworkSettings.Ports["80/tcp"]; s.State.Status == "running" && a.name != "run" {
		if len(p) != 1 {
			w.t.Errorf("it runs without its port: %v", s.NetworkSettings.Ports)
			return
		}
		eventually(w.t, "its port answers", func() (bool, string) {
			code := get(w.t, p[0].HostIp+":"+p[0].HostPort)
			return code == 404, fmt.Sprint(code)
		})
	}
	if s.State.Status == "exited" && a.lines > 0 {
		out := strings.Split(done(w.t, w.cli, "logs", s.ID), "\n")
		if len(out) != a.lines || out[len(out)-1] != fmt.Sprint("line ", a.lines-1) {
			w.t.Errorf("its log has %d lines, the last is %q", len(out), out[len(out)-1])
		}
	}
}

// turning wants a container with a restart policy to be started again, unless it has never been or has been stopped.
func (w *world) turning(last deed, open *deed, s *shown) {
	w.t.Helper()
	if !last.allows("restarting") || open != nil && open.allows("exited") {
		return
	}
	eventually(w.t, "its policy starts it again", func() (bool, string) {
		now := w.subject()
		return now != nil && now.State.StartedAt != s.State.StartedAt, fmt.Sprintf("%+v", now)
	})
}

// A trial is one act in which brigd dies at one point.
type trial struct {
	act   act
	point string
}

// trials finds which points the acts pass. Each is tried in the first act that does, and in those that ask for it; with
// BRIG_FAULTS=all in all of them.
func (w *world) trials() (out []trial) {
	w.t.Helper()
	tried := map[string]bool{}
	for _, a := range acts() {
		if err := os.Truncate(w.passed, 0); err != nil {
			w.t.Fatal(err)
		}
		last, open := w.play(a)
		if open != nil {
			w.t.Fatalf("%s: brigd died undisturbed", a.name)
		}
		w.judge(a, last, nil)
		w.clear()
		text, err := os.ReadFile(w.passed)
		if err != nil {
			w.t.Fatal(err)
		}
		here := map[string]bool{}
		for _, p := range strings.Fields(string(text)) {
			wanted := !tried[p] || os.Getenv("BRIG_FAULTS") == "all" || slices.ContainsFunc(a.again, func(prefix string) bool { return strings.HasPrefix(p, prefix) })
			if wanted && !here[p] {
				out = append(out, trial{a, p})
			}
			here[p] = true
		}
		for p := range here {
			tried[p] = true
		}
	}
	return out
}

// brigd is killed at every step of a container's life, and each time the next brigd finds what was acknowledged and leaves nothing else.
// Two brigd share the trials; in each a bystander runs through all of them.
func TestKilledAtEveryStepOfAContainer(t *testing.T) {
	own(t)
	bin := faultBin(t)
	first := newWorld(t, bin)
	all := first.trials()
	t.Logf("%d trials", len(all))
	if len(all) < 50 {
		t.Errorf("only %d trials", len(all))
	}
	for half := range 2 {
		t.Run(fmt.Sprint("half", half), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, bin)
			for i := half; i < len(all) && !t.Failed(); i += 2 {
				w.try(all[i])
			}
			w.whole()
		})
	}
}

func (w *world) try(tr trial) {
	w.t.Helper()
	mark := func(failed bool) {
		if !failed && w.t.Failed() {
			w.t.Logf("in act %s, killed at %s\n%s", tr.act.name, tr.point, warnings(w.Log))
		}
	}
	defer mark(w.t.Failed())
	if err := os.WriteFile(w.trap, []byte(tr.point), 0o600); err != nil {
		w.t.Fatal(err)
	}
	last, open := w.play(tr.act)
	os.Remove(w.trap)
	select {
	case <-w.Gone():
		start(w.t, w.Server)
	default:
		w.t.Logf("%s was not passed in act %s", tr.point, tr.act.name)
	}
	w.judge(tr.act, last, open)
	w.clear()
}

// warnings are the last lines of brigd's log that are not about requests.
func warnings(file string) string {
	var out []string
	for line := range strings.Lines(testbed.LogEnd(file)) {
		if !strings.Contains(line, `"DEBUG"`) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}
