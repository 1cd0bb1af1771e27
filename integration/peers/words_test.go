package peers

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// An answer is a status and what failed: the message, or the error in a stream.
type answer struct {
	status int
	words  string
}

func ask(t *testing.T, host, method, path, body string) answer {
	t.Helper()
	client := testbed.Client(host)
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(bed.ctx, method, "http://d/v1.41"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Registry-Auth", "e30=")
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode}
	d := json.NewDecoder(resp.Body)
	for {
		var line struct{ Message, Error string }
		if err := d.Decode(&line); err != nil {
			io.Copy(io.Discard, resp.Body)
			return a
		}
		if line.Message+line.Error != "" {
			a.words = line.Message + line.Error
		}
	}
}

// TestWords asks both engines for what they can't do: the same status, and the same words but for those in the table.
func TestWords(t *testing.T) {
	reg := bed.reg
	for _, cli := range []testbed.CLI{bed.brig, bed.docker} {
		for _, name := range []string{"busybox", "user"} {
			on(t, cli, "pull", "-q", reg+"/"+name)
		}
		on(t, cli, "tag", reg+"/busybox", reg+"/other:1")
	}
	id := id(t, bed.brig, reg+"/busybox")
	zeros := "sha256:" + strings.Repeat("0", 64)
	create := func(image, tag string) string {
		return "/images/create?" + url.Values{"fromImage": {image}, "tag": {tag}}.Encode()
	}
	for _, c := range []struct {
		name, method, path, body string
		differs                  string // brig's own words, and why; "" if they are dockerd's
	}{
		{"pull: no repository", "POST", create(reg+"/nosuch", "1"), "", ""},
		{"pull: no tag", "POST", create(reg+"/busybox", "nosuch"), "", ""},
		{"pull: no digest", "POST", create(reg+"/busybox", zeros), "", ""},
		{"pull: upper case", "POST", create("UPPER", "1"), "", "repository name (library/UPPER) must be lowercase // newer dockerds name it too"},
		{"pull: bad tag", "POST", create("x", "a b"), "", ""},
		{"pull: nobody there", "POST", create("127.0.0.1:1/x", "1"), "", ""},
		{"pull: no such platform", "POST", create(reg+"/multi", "latest") + "&platform=linux/s390x", "", "no matching manifest for linux/s390x in the manifest list entries: it has linux/amd64, linux/arm64 // and the status, since nothing has been said yet"},
		{"push: no image", "POST", "/images/" + reg + "/nosuch/push?tag=1", "", ""},
		{"push: no tag", "POST", "/images/" + reg + "/busybox/push?tag=nosuch", "", ""},
		{"push: upper case", "POST", "/images/UPPER/push?tag=1", "", "repository name (library/UPPER) must be lowercase // and 400, as newer dockerds"},
		{"push: digest", "POST", "/images/x@" + zeros + "/push", "", "cannot push a digest reference // as dockerd since 23"},
		{"push: nobody there", "POST", "/images/127.0.0.1:1/x/push?tag=1", "", ""},
		{"load: junk", "POST", "/images/load", strings.Repeat("junk", 1000), "read archive: archive/tar: invalid tar header // no subprocess; and 400, since nothing has been said yet"},
		{"load: nothing", "POST", "/images/load", "", "it has neither manifest.json nor index.json // dockerd names a file of its own"},
		{"save: no image", "GET", "/images/nosuch/get", "", ""},
		{"save: no tag", "GET", "/images/" + reg + "/busybox:nosuch/get", "", ""},
		{"save: upper case", "GET", "/images/UPPER/get", "", "repository name (library/UPPER) must be lowercase // and 400, as newer dockerds"},
		{"save: nothing", "GET", "/images/get", "", "no image names given // dockerd sends an empty archive"},
		{"tag: no image", "POST", "/images/nosuch/tag?repo=x&tag=1", "", ""},
		{"tag: upper case", "POST", "/images/" + id + "/tag?repo=UPPER&tag=1", "", "repository name (library/UPPER) must be lowercase // and 400, as newer dockerds"},
		{"tag: bad tag", "POST", "/images/" + id + "/tag?repo=x&tag=-", "", "invalid tag format // 400, as newer dockerds"},
		{"tag: digest", "POST", "/images/" + id + "/tag?repo=x@" + zeros, "", ""},
		{"tag: name of an algorithm", "POST", "/images/" + id + "/tag?repo=sha256&tag=1", "", ""},
		{"tag: no name", "POST", "/images/" + id + "/tag", "", "the query parameter repo is empty // and 400"},
		{"rmi: no image", "DELETE", "/images/nosuch", "", ""},
		{"rmi: no tag", "DELETE", "/images/" + reg + "/busybox:nosuch", "", ""},
		{"rmi: no ID", "DELETE", "/images/" + zeros, "", ""},
		{"rmi: upper case", "DELETE", "/images/UPPER", "", "repository name (library/UPPER) must be lowercase // newer dockerds name it too"},
		{"rmi: two repositories", "DELETE", "/images/" + id, "", ""},
		{"import: junk", "POST", "/images/create?fromSrc=-&repo=imp&tag=1", strings.Repeat("junk", 1000), "read archive: archive/tar: invalid tar header // and 400: it is the client's fault"},
		{"import: upper case", "POST", "/images/create?fromSrc=-&repo=UPPER", "", "repository name (library/UPPER) must be lowercase // newer dockerds name it too"},
		{"import: digest", "POST", "/images/create?fromSrc=-&repo=x@" + zeros, "", ""},
		{"import: nobody there", "POST", "/images/create?fromSrc=" + url.QueryEscape("http://127.0.0.1:1/x.tar"), "", "connect: connection refused // 503 says that it may work later"},
		{"import: no URL", "POST", "/images/create?fromSrc=" + url.QueryEscape("ftp://x/y"), "", "only http and https URLs can be fetched // and 400"},
		{"import: bad change", "POST", "/images/create?fromSrc=-&changes=FROM+x", "", "FROM is not a valid change command // newer dockerds keep the case"},
		{"inspect: no image", "GET", "/images/nosuch/json", "", "No such image: nosuch:latest // newer dockerds don't say it twice"},
		{"inspect: upper case", "GET", "/images/UPPER/json", "", "repository name (library/UPPER) must be lowercase // newer dockerds name it too"},
		{"history: no image", "GET", "/images/nosuch/history", "", ""},
		{"distribution: no tag", "GET", "/distribution/" + reg + "/busybox:nosuch/json", "", ""},
		{"distribution: upper case", "GET", "/distribution/UPPER/json", "", "repository name (library/UPPER) must be lowercase // newer dockerds name it too"},
	} {
		got, want := ask(t, bed.brig.Host, c.method, c.path, c.body), ask(t, bed.docker.Host, c.method, c.path, c.body)
		if c.differs != "" {
			own, why, _ := strings.Cut(c.differs, " // ")
			if !strings.Contains(got.words, own) || got == want {
				t.Errorf("%s: %d %q, want %q (%s); dockerd %d %q", c.name, got.status, got.words, own, why, want.status, want.words)
			}
			continue
		}
		if got != want {
			t.Errorf("%s:\nbrig    %d %s\ndockerd %d %s", c.name, got.status, got.words, want.status, want.words)
		}
	}
}
