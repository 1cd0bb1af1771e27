package integration

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// An apiRow is a raw request of TestAPITable.
type apiRow struct {
	do    string // METHOD PATH; a path without a version gets /v1.41, the newest that dockerd 20.10 speaks
	body  string // JSON, or "tar:NAME" for an archive with one file, "context:TEXT" for one with the Dockerfile TEXT; "-" sends none but says that there is JSON
	shape bool   // compare kinds of values, not values: they are the host's
	said  string // a container that must have said "out" before
}

// TestAPITable sends recorded requests and compares status, kind of body, body and words with what was recorded of brig and of dockerd
// 20.10 (testdata/api-brig.txt and api-dockerd.txt). Where the two records differ, api_differs_test.go must say why. BRIG_TEST_RECORD=1
// records anew the answers of the server that runs.
func TestAPITable(t *testing.T) {
	mine, other := "testdata/api-brig.txt", "testdata/api-dockerd.txt"
	if !bed.server.Owned {
		mine, other = other, mine
	}
	recorded := readRecord(t, mine)
	theirs := readRecord(t, other)
	why := whyDifferent
	if !bed.server.Owned {
		why = func(title, dockerd, brig string) string { return whyDifferent(title, brig, dockerd) }
	}
	got := map[string]string{}
	var record bytes.Buffer
	s := apiSession{t: t, vars: map[string]string{"$IMAGE": image("busybox")}}
	t.Cleanup(func() { s.removeAll() })
	for _, row := range apiRows() {
		title := row.title()
		for n := 2; got[title] != ""; n++ {
			title = fmt.Sprintf("%s (%d)", row.title(), n)
		}
		if !bed.server.Owned && newerThanDockerd(row.do) {
			got[title] = "skipped"
			continue
		}
		if row.said != "" {
			logged(t, row.said, "out")
		}
		got[title] = onTwoCPUs(s.answer(row))
		fmt.Fprintf(&record, "== %s\n%s\n", title, got[title])
		if os.Getenv("BRIG_TEST_RECORD") != "" {
			continue
		}
		if want := recorded[title]; got[title] != want && !answersElsewise(title, got[title], want) {
			t.Errorf("%s\n%s", title, lineDiff(got[title], want))
		}
		if newerThanDockerd(row.do) {
			continue
		}
		if recorded[title] != theirs[title] && why(title, recorded[title], theirs[title]) == "" {
			t.Errorf("%s: the records of the two servers differ, and nothing says why\n%s", title, lineDiff(recorded[title], theirs[title]))
		}
	}
	if os.Getenv("BRIG_TEST_RECORD") != "" {
		if err := os.WriteFile(mine, record.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func (r apiRow) title() string {
	return strings.TrimSpace(r.do + " " + strings.ReplaceAll(strings.TrimSpace(r.body), "\n", `\n`))
}

var versioned = regexp.MustCompile(`^/v1\.(4[2-9]|5\d)/`)

func newerThanDockerd(do string) bool {
	_, path, _ := strings.Cut(do, " ")
	return versioned.MatchString(path)
}

// readRecord returns the recorded answers by title.
func readRecord(t *testing.T, file string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && os.Getenv("BRIG_TEST_RECORD") != "" {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for block := range strings.SplitSeq("\n"+string(b), "\n== ") {
		title, answer, _ := strings.Cut(block, "\n")
		out[title] = strings.TrimSuffix(answer, "\n")
	}
	return out
}

// lineDiff shows the lines that only one of the texts has.
func lineDiff(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	var b strings.Builder
	for _, l := range g {
		if !slices.Contains(w, l) {
			fmt.Fprintf(&b, "  got  %s\n", l)
		}
	}
	for _, l := range w {
		if !slices.Contains(g, l) {
			fmt.Fprintf(&b, "  want %s\n", l)
		}
	}
	return b.String()
}

// An apiSession keeps what one answer says for later requests: $ID is the container that was made last, $EXEC the exec, $IMG the image.
type apiSession struct {
	t    *testing.T
	vars map[string]string
	made []string
}

func (s *apiSession) removeAll() {
	if len(s.made) > 0 {
		docker(s.t, append([]string{"rm", "-f", "-v"}, s.made...)...)
	}
	for _, v := range []string{"at-vol", "at-vol2"} {
		docker(s.t, "volume", "rm", "-f", v)
	}
	docker(s.t, "network", "rm", "-f", "at-bad", "at-net", "at-sub", "at-in", "at-of", "at-conf")
}

func (s *apiSession) fill(text string) string {
	for name, value := range s.vars {
		text = strings.ReplaceAll(text, name, value)
	}
	return text
}

// answer sends one request and returns the whole answer, with what changes from run to run replaced.
func (s *apiSession) answer(row apiRow) string {
	method, path, _ := strings.Cut(s.fill(row.do), " ")
	if !strings.HasPrefix(path, "/v") || strings.HasPrefix(path, "/version") || strings.HasPrefix(path, "/volumes") {
		path = "/v1.41" + path
	}
	body := s.fill(row.body)
	contentType := "application/json"
	if name, ok := strings.CutPrefix(body, "tar:"); ok {
		body, contentType = oneFileTar(s.t, name, "text\n"), "application/x-tar"
	} else if dockerfile, ok := strings.CutPrefix(body, "context:"); ok {
		body, contentType = oneFileTar(s.t, "Dockerfile", dockerfile), "application/x-tar"
	}
	status, header, got := s.exchange(method, path, contentType, body)
	if status == http.StatusCreated {
		s.learn(path, body, got)
	}
	return describe(status, header, got, row.shape)
}

// onTwoCPUs gives an answer that names this host's processors as one with two has it, on which the answers were recorded.
func onTwoCPUs(answer string) string {
	n := runtime.NumCPU()
	return strings.NewReplacer(
		fmt.Sprintf("to %d.00, as there are only %d CPUs", n, n), "to 2.00, as there are only 2 CPUs",
		fmt.Sprintf("available: 0-%d", n-1), "available: 0-1",
	).Replace(answer)
}

func (s *apiSession) learn(path, asked string, body []byte) {
	var made struct{ ID string }
	if json.Unmarshal(body, &made) != nil || made.ID == "" {
		return
	}
	switch {
	case strings.Contains(path, "/exec"):
		s.vars["$EXEC"] = made.ID
	case strings.Contains(path, "/networks/"):
		if strings.Contains(asked, `"at-bad"`) { // a bad request that was taken
			docker(s.t, "network", "rm", made.ID)
		}
	case strings.Contains(path, "name=at-bad"): // a bad request that was taken
		docker(s.t, "rm", "-f", "-v", made.ID)
	case strings.Contains(path, "/containers/create"):
		s.vars["$ID"] = made.ID
		s.made = append(s.made, made.ID)
	}
}

// exchange sends the request over a connection of its own. A stream is read to its end.
func (s *apiSession) exchange(method, path, contentType, body string) (int, http.Header, []byte) {
	s.t.Helper()
	conn, err := net.Dial("unix", strings.TrimPrefix(bed.server.Host, "unix://"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: d\r\n", method, path)
	if body != "" {
		body = strings.TrimPrefix(body, "-")
		head += fmt.Sprintf("Content-Type: %s\r\n", contentType)
	}
	if strings.Contains(path, "/attach?") || strings.HasPrefix(body, `{"Detach":false,"Tty"`) {
		head += "Connection: Upgrade\r\nUpgrade: tcp\r\n"
	} else {
		head += "Connection: close\r\n"
	}
	if _, err := fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body); err != nil {
		s.t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	var got []byte
	if resp.StatusCode == http.StatusSwitchingProtocols {
		got, err = io.ReadAll(r)
	} else {
		got, err = io.ReadAll(resp.Body)
	}
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, resp.Header, got
}

// describe makes text of an answer.
func describe(status int, header http.Header, body []byte, shape bool) string {
	var b strings.Builder
	kind := header.Get("Content-Type")
	fmt.Fprintf(&b, "%d %s\n", status, kind)
	for _, h := range []string{"Upgrade", "X-Docker-Container-Path-Stat", "Docker-Experimental", "Ostype", "Swarm", "Cache-Control"} {
		v := header.Get(h)
		switch {
		case v == "" || h != "Upgrade" && !strings.HasPrefix(h, "X-") && kind != "text/plain; charset=utf-8":
			continue
		case h == "X-Docker-Container-Path-Stat":
			stat, _ := base64.StdEncoding.DecodeString(v)
			v = steady(string(stat))
		}
		fmt.Fprintf(&b, "%s: %s\n", h, v)
	}
	switch {
	case len(body) == 0:
	case len(body) > 512 && bytes.HasPrefix(body[257:], []byte("ustar")):
		b.WriteString(tarText(body))
	case strings.HasPrefix(kind, "application/json"):
		b.WriteString(jsonText(body, shape))
	default:
		b.WriteString(streamText(body))
	}
	return strings.TrimRight(b.String(), "\n")
}

// jsonText is each of the documents in body with sorted keys.
func jsonText(body []byte, shape bool) string {
	var b strings.Builder
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	for {
		var v any
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			return b.String()
		} else if err != nil {
			return b.String() + "not JSON: " + string(body)
		}
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", " ")
		if err := enc.Encode(steadyJSON("", v, shape)); err != nil {
			return err.Error()
		}
	}
}

// volatile are the fields whose numbers and texts are the host's or the moment's; only their kind is compared.
var volatile = regexp.MustCompile(`^(Pid|Created|CreatedAt|Size|SizeRootFs|SizeRw|SharedSize|LayersSize|time|timeNano|Mountpoint|Source|HostPort|PublicPort|MaskedPaths|Data|Driver-Storage|ReadonlyPaths|GlobalIPv6PrefixLen|IPPrefixLen|ResolvConfPath|HostnamePath|HostsPath|LogPath|SandboxKey)$`)

// steadyJSON replaces what changes from run to run.
func steadyJSON(key string, v any, shape bool) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			if k != "ParentId" && k != "BuildTime" && k != "GitCommit" { // set by who built the image or the program
				out[steady(k)] = steadyJSON(k, e, shape)
			}
		}
		if key == "GraphDriver" {
			return "<driver>"
		}
		return out
	case []any:
		out := []any{}
		for _, e := range v {
			out = append(out, steadyJSON(key, e, shape))
		}
		sortMaps(out)
		if volatile.MatchString(key) {
			return "<list>"
		}
		if shape { // how many of a kind there are is the host's
			out = slices.CompactFunc(out, func(a, b any) bool { return reflect.DeepEqual(a, b) })
		}
		return out
	case json.Number:
		if shape || volatile.MatchString(key) {
			return "<number>"
		}
	case bool:
		if shape {
			return "<bool>"
		}
	case string:
		if v != "" && (shape || volatile.MatchString(key)) {
			return "<string>"
		}
		return steady(v)
	}
	return v
}

// sortMaps sorts a list of objects, whose order dockerd takes from chance where brig sorts.
func sortMaps(list []any) {
	text := func(v any) string {
		b, _ := json.Marshal(v) // it came from JSON
		return string(b)
	}
	if len(list) > 0 && reflect.TypeOf(list[0]) == reflect.TypeFor[map[string]any]() {
		slices.SortFunc(list, func(a, b any) int { return strings.Compare(text(a), text(b)) })
	}
}

var steadyRules = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+/`), "REG/"},
	{regexp.MustCompile(`/\S*/overlay2/`), "<root>/overlay2/"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "<id>"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "<short>"},
	{regexp.MustCompile(`\b20\d\d-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)`), "<time>"},
	{regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`), "<mac>"},
	{regexp.MustCompile(`\b172\.\d+\.\d+\.\d+\b`), "<ip>"},
	{regexp.MustCompile(`^(overlay2?|vfs|copy|zfs)$`), "<driver>"},
	{regexp.MustCompile(`\b(Less than a second|\d+ seconds?|About a minute)\b`), "<while>"},
}

func steady(s string) string {
	for _, r := range steadyRules {
		s = r.re.ReplaceAllString(s, r.with)
	}
	return s
}

// tarText lists an archive; times are left out.
func tarText(body []byte) string {
	var lines []string
	r := tar.NewReader(bytes.NewReader(body))
	for {
		h, err := r.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				lines = append(lines, err.Error())
			}
			break
		}
		lines = append(lines, fmt.Sprintf("%c %o %d:%d %d %s %s", h.Typeflag, h.Mode&0o7777, h.Uid, h.Gid, h.Size, h.Name, h.Linkname))
	}
	if len(lines) > 50 { // an export: what it has of note
		lines = slices.DeleteFunc(lines, func(l string) bool {
			return !regexp.MustCompile(` (\.dockerenv|etc/(hosts|hostname|resolv\.conf)|dev/|proc/|at-new|bin/busybox) `).MatchString(l)
		})
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// streamText takes multiplexed streams apart; each stream is shown whole, however it was cut.
func streamText(body []byte) string {
	rest, streams := body, map[byte]string{}
	for len(rest) >= 8 && rest[0] <= 2 && rest[1] == 0 {
		n := int(binary.BigEndian.Uint32(rest[4:8]))
		if len(rest) < 8+n {
			break
		}
		streams[rest[0]] += string(rest[8 : 8+n])
		rest = rest[8+n:]
	}
	if len(rest) > 0 {
		return steady(string(body))
	}
	var lines []string
	for _, k := range []byte{0, 1, 2} {
		if text, ok := streams[k]; ok {
			lines = append(lines, fmt.Sprintf("stream %d: %q", k, steady(text)))
		}
	}
	return strings.Join(lines, "\n")
}

func oneFileTar(t *testing.T, name, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: filepath.Clean(name), Mode: 0o640, Uid: 7, Gid: 8, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
