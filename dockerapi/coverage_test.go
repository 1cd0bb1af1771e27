package dockerapi

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
)

// swarmRE matches the endpoints that the page treats as a group.
var swarmRE = regexp.MustCompile(`^\w+ /(swarm|nodes|services|tasks|secrets|configs)(/|$)`)

var varRE = regexp.MustCompile(`\{[^}]*\}`)

// endpoint makes "GET /images/{}/json" of a method and any spelling of a pattern.
func endpoint(method, path string) string { return method + " " + varRE.ReplaceAllString(path, "{}") }

// coveragePage returns the state of each endpoint on docs/api-coverage.md.
func coveragePage(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../docs/api-coverage.md")
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 {
			continue
		}
		method, path, state, how := strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3]), strings.TrimSpace(cells[4])
		if !strings.HasPrefix(path, "/") {
			continue
		}
		switch state {
		case "works", "not yet":
		case "differs", "refused":
			if how == "" {
				t.Errorf("%s %s is %q, but the page doesn't say how", method, path, state)
			}
		default:
			t.Errorf("%s %s: unknown state %q", method, path, state)
		}
		e := endpoint(method, path)
		if _, twice := states[e]; twice {
			t.Errorf("%s is on the page twice", e)
		}
		states[e] = state
	}
	return states
}

func TestCoveragePageAgreesWithRoutes(t *testing.T) {
	page, routed := coveragePage(t), map[string]bool{}
	for _, rt := range new(Server).routes() {
		e := endpoint(rt.method, rt.path)
		if routed[e] {
			t.Errorf("%s is in the route table twice", e)
		}
		routed[e] = true
		if _, ok := page[e]; !ok && !swarmRE.MatchString(e) {
			t.Errorf("%s is in the route table, but not in docs/api-coverage.md", e)
		}
		if rt.h == nil || rt.since > MaxVersion || (rt.since < MinVersion && rt.since != unversioned) {
			t.Errorf("%s: handler %v, since %v", e, rt.h != nil, rt.since)
		}
	}
	for e := range page {
		if !routed[e] {
			t.Errorf("%s is in docs/api-coverage.md, but not in the route table", e)
		}
	}
}

// testdata/endpoints-1.51.txt lists the paths of moby's api/docs/v1.51.yaml, swarm left out.
func TestCoveragePageHasTheWholeAPI(t *testing.T) {
	list, err := os.ReadFile("testdata/endpoints-1.51.txt")
	if err != nil {
		t.Fatal(err)
	}
	page, n := coveragePage(t), 0
	for line := range strings.Lines(string(list)) {
		method, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, ok := page[endpoint(method, path)]; !ok {
			t.Errorf("%s %s of API 1.51 is not in docs/api-coverage.md", method, path)
		}
		n++
	}
	if n < 70 {
		t.Errorf("the list has %d endpoints: it is not whole", n)
	}
}

// jsonNames lists the members that a struct has as JSON, those of embedded structs included.
func jsonNames(t reflect.Type) (names []string) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			names = append(names, jsonNames(f.Type)...)
		case name == "":
			names = append(names, f.Name)
		case name != "-":
			names = append(names, name)
		}
	}
	return names
}

func TestCoveragePageHasEveryFieldOfCreate(t *testing.T) {
	b, err := os.ReadFile("../docs/api-coverage.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	n := 0
	for prefix, typ := range map[string]reflect.Type{"Config": reflect.TypeFor[container.Config](), "HostConfig": reflect.TypeFor[container.HostConfig]()} {
		for _, name := range jsonNames(typ) {
			row := regexp.MustCompile(`(?m)^\| ` + prefix + `\.` + name + ` \| (works|differs|refused|not yet) \| (.*)\|$`).FindStringSubmatch(page)
			switch {
			case row == nil:
				t.Errorf("%s.%s is not in docs/api-coverage.md", prefix, name)
			case row[2] == "" && (row[1] == "differs" || row[1] == "refused"):
				t.Errorf("%s.%s is %q, but the page doesn't say how", prefix, name, row[1])
			}
			n++
		}
	}
	if n < 80 {
		t.Errorf("only %d fields were found", n)
	}
}
