package brig

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/brigd/brig/internal/errs"
)

// The whole table of moves, as text: from each state, where to.
func TestMoves(t *testing.T) {
	all := []State{Created, Running, Paused, Restarting, Removing, Exited, Dead}
	want := map[State][]State{
		Created:    {Running, Removing, Exited},
		Running:    {Paused, Restarting, Exited},
		Paused:     {Running, Restarting, Exited},
		Restarting: {Running, Removing, Exited},
		Removing:   {Dead},
		Exited:     {Running, Restarting, Removing},
		Dead:       {Removing},
	}
	for _, from := range all {
		for _, to := range all {
			err := from.Move(to)
			if ok := slices.Contains(want[from], to); ok != (err == nil) || err != nil && !errs.Is(err, errs.Conflict) {
				t.Errorf("%s to %s: %v", from, to, err)
			}
		}
		b, err := json.Marshal(from)
		var back State
		if err != nil || json.Unmarshal(b, &back) != nil || back != from || string(b) != `"`+from.String()+`"` {
			t.Errorf("%s is %s in a record", from, b)
		}
	}
	if _, err := ParseState("nosuch"); !errs.Is(err, errs.Invalid) {
		t.Errorf("an unknown state: %v", err)
	}
}

func TestIDs(t *testing.T) {
	a, b := NewID(), NewID()
	if a == b || len(a) != 64 || a.Short() != string(a[:12]) || ID("abc").Short() != "abc" {
		t.Errorf("%s, %s", a, b)
	}
	if r := NewRID(); !r.Valid() || RID("../../etc/passwd").Valid() || RID("").Valid() {
		t.Errorf("rid %s", r)
	}
}

// The example of the OCI image spec's config.md: the chain of one layer is its diff, of two the sum of both.
func TestChainIDs(t *testing.T) {
	a, b := DigestOf([]byte("a")), DigestOf([]byte("b"))
	got := ChainIDs([]Digest{a, b})
	if got[0] != a || got[1] != DigestOf([]byte(string(a)+" "+string(b))) {
		t.Errorf("%v", got)
	}
	for _, bad := range []string{"", "sha256:", "sha512:" + a.Hex(), "sha256:" + a.Hex() + "0", "sha256:../" + a.Hex()[3:]} {
		if _, err := ParseDigest(bad); !errs.Is(err, errs.Invalid) {
			t.Errorf("digest %q: %v", bad, err)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{"ab": true, "a.b_c-d": true, "0x": true, "a": false, "": false, "-ab": false, "a/b": false, "ab\n": false, "ä1": false} {
		if err := CheckName("container", name); ok != (err == nil) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestParsePort(t *testing.T) {
	for s, want := range map[string]string{"80": "80/tcp", "53/UDP": "53/udp", "1/sctp": "1/sctp"} {
		if p, err := ParsePort(s); err != nil || p.String() != want {
			t.Errorf("%s: %v, %v", s, p, err)
		}
	}
	for _, bad := range []string{"", "0", "65536", "x", "80/icmp", "80/", "-1"} {
		if p, err := ParsePort(bad); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v, %v", bad, p, err)
		}
	}
}

func TestCloneSharesNothingThatChanges(t *testing.T) {
	c := &Container{Mounts: []MountPoint{{Target: "/a"}}, Endpoints: map[string]Endpoint{"n": {}}, Handle: &Handle{InitPID: 1}, Status: Status{StartedAt: time.Unix(1, 0)}}
	d := c.Clone()
	d.Mounts[0].Target, d.Handle.InitPID, d.Endpoints["m"] = "/b", 2, Endpoint{}
	if c.Mounts[0].Target != "/a" || c.Handle.InitPID != 1 || len(c.Endpoints) != 1 {
		t.Errorf("the copy changed the original: %+v", c)
	}
}

func TestPlatform(t *testing.T) {
	for s, want := range map[string]string{"linux/arm64/v8": "linux/arm64/v8", "Linux/AMD64": "linux/amd64", "linux": "linux/"} {
		if got := ParsePlatform(s).String(); got != want {
			t.Errorf("%s: %s, want %s", s, got, want)
		}
	}
}
