package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// metadataURL is a running container's.
func metadataURL(t *testing.T, cli testbed.CLI, id string) string {
	t.Helper()
	url := done(t, cli, "exec", id, "sh", "-c", "echo $AC_METADATA_URL")
	if !regexp.MustCompile(`^http://[0-9.]+:1104/~[A-Za-z0-9_-]{43}$`).MatchString(url) {
		t.Fatalf("AC_METADATA_URL is %q", url)
	}
	return url
}

// podUUID is what a container's ID makes (RFC 9562: version 4, variant 10).
func podUUID(id string) string {
	v := "89ab"[strings.IndexByte("0123456789abcdef", id[16])&3]
	return id[:8] + "-" + id[8:12] + "-4" + id[13:16] + "-" + string(v) + id[17:20] + "-" + id[20:32]
}

// wget asks in a container, and returns the answer's status line, content type and body.
func wget(t *testing.T, cli testbed.CLI, id string, args ...string) (status, contentType, body string) {
	t.Helper()
	r := dockerOn(t, cli, nil, append([]string{"exec", id, "wget", "-S", "-O", "-"}, args...)...)
	if m := regexp.MustCompile(`HTTP/1\.1 (\d+)`).FindStringSubmatch(r.Err); m != nil {
		status = m[1]
	}
	if m := regexp.MustCompile(`(?i)Content-Type: (.*)`).FindStringSubmatch(r.Err); m != nil {
		contentType = strings.TrimSpace(m[1])
	}
	return status, contentType, r.Out
}

// raw sends bytes from inside a container to its gateway, and returns what comes back.
func raw(t *testing.T, cli testbed.CLI, id, gateway, text string) string {
	t.Helper()
	r := dockerOn(t, cli, strings.NewReader(text), "exec", "-i", id, "nc", gateway, "1104")
	return r.Out
}

// ACI IDs are computed in the background.
func awaitManifest(t *testing.T, cli testbed.CLI, id, url string) (body string) {
	t.Helper()
	eventually(t, "the image ID is known", func() (bool, string) {
		var status string
		status, _, body = wget(t, cli, id, url+"/acMetadata/v1/pod/manifest")
		return status == "200", status
	})
	return body
}

func TestMetadata(t *testing.T) {
	_, cli := daemon(t)
	id := done(t, cli, "run", "-d", "--name", "My_Web.1", "--label", "com.example.tier=front", "-p", "127.0.0.1::80", "-e", "A=b", image("busybox"), "sleep", "1000")
	url := metadataURL(t, cli, id)
	var pod struct {
		ACKind string
		Apps   []struct {
			Name  string
			Image struct{ ID string }
			App   struct{ Exec []string }
		}
	}
	if err := json.Unmarshal([]byte(awaitManifest(t, cli, id, url)), &pod); err != nil {
		t.Fatal(err)
	}
	if len(pod.Apps) != 1 || pod.ACKind != "PodManifest" || pod.Apps[0].Name != "my-web-1" || !slices.Equal(pod.Apps[0].App.Exec, []string{"sleep", "1000"}) {
		t.Errorf("manifest: %+v", pod)
	}
	const text, document = "text/plain; charset=us-ascii", "application/json"
	app := "/acMetadata/v1/apps/my-web-1"
	for _, c := range []struct{ path, contentType, body string }{
		{"/acMetadata/v1/pod/uuid", text, "^" + podUUID(id) + "$"},
		{"/acMetadata/v1/pod/manifest", document, `"80-tcp"`},
		{"/acMetadata/v1/pod/annotations", document, id},
		{app + "/annotations", document, `\{"name":"com.example.tier","value":"front"\}`},
		{app + "/image/manifest", document, `"acKind":"ImageManifest"`},
		{app + "/image/id", text, "^" + pod.Apps[0].Image.ID + "$"},
		{"/brig/v1/jwks", "application/jwk-set+json", `"crv":"Ed25519"`},
		{"/brig/v1/identity?aud=x", "application/jwt", `^[\w-]+\.[\w-]+\.[\w-]+$`},
	} {
		status, contentType, body := wget(t, cli, id, url+c.path)
		if status != "200" || contentType != c.contentType || !regexp.MustCompile(c.body).MatchString(body) {
			t.Errorf("%s: %s %s %q", c.path, status, contentType, body)
		}
	}
	if out := done(t, cli, "inspect", id); strings.Contains(out, "AC_METADATA_URL") || strings.Contains(out, ":1104") {
		t.Error("inspect shows what dockerd's wouldn't")
	}
	if out := done(t, cli, "info", "-f", "{{json .Warnings}}"); strings.Contains(out, "metadata") {
		t.Errorf("info warns: %s", out)
	}
	for name, args := range map[string][]string{
		"none":          {"--network", "none"},
		"host":          {"--network", "host"},
		"off":           {"--label", "io.brig.metadata=off"},
		"one's own URL": {"-e", "AC_METADATA_URL="},
	} {
		equal(t, name, done(t, cli, append(append([]string{"run", "--rm"}, args...), image("busybox"), "sh", "-c", `echo "$AC_METADATA_URL"`)...), "")
	}
}

// Whoever isn't the pod gets nothing, and the pod itself a clear refusal of what is wrong.
func TestMetadataRefusals(t *testing.T) {
	s, cli := daemon(t)
	done(t, cli, "network", "create", "elsewhere")
	a := done(t, cli, "run", "-d", image("busybox"), "sleep", "1000")
	b := done(t, cli, "run", "-d", image("busybox"), "sleep", "1000")
	far := done(t, cli, "run", "-d", "--network", "elsewhere", image("busybox"), "sleep", "1000")
	url := metadataURL(t, cli, a)
	host, token, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/~")
	gateway, _, _ := net.SplitHostPort(host)
	uuid := "/acMetadata/v1/pod/uuid"
	sign := "/acMetadata/v1/pod/hmac/sign"
	big := `head -c 300000 /dev/zero | tr '\0' x >/tmp/big; `
	for _, c := range []struct{ name, who, path, want string }{
		{"the pod itself", a, url + uuid, "200"},
		{"wrong token", a, "http://" + host + "/~" + strings.Repeat("A", len(token)) + uuid, "403"},
		{"no token", a, "http://" + host + uuid, "403"},
		{"another pod of the network with its token", b, url + uuid, "403"},
		{"a pod of another network with its token", far, url + uuid, ""},
		{"unknown path", a, url + "/acMetadata/v2/pod/uuid", "404"},
		{"no such app", a, url + "/acMetadata/v1/apps/nosuch/image/id", "404"},
		{"GET of sign", a, url + sign, "405"},
		{"a token for nobody", a, url + "/brig/v1/identity", "400"},
	} {
		if status, _, body := wget(t, cli, c.who, c.path); status != c.want || c.want != "200" && body != "" {
			t.Errorf("%s: %q %q, not %q", c.name, status, body, c.want)
		}
	}
	for _, c := range []struct{ name, data, want string }{
		{"no field", "--post-data=x=y", "400"}, {"no form", "--post-data=%zz", "400"}, {"good", "--post-data=content=x", "200"},
	} {
		if status, _, _ := wget(t, cli, a, c.data, url+sign); status != c.want {
			t.Errorf("sign, %s: %q, not %q", c.name, status, c.want)
		}
	}
	out := dockerOn(t, cli, nil, "exec", a, "sh", "-c", big+"wget -O- --post-file /tmp/big "+url+sign)
	match(t, "an oversized body", out.Err, "413 Request Entity Too Large")
	match(t, "DELETE", raw(t, cli, a, gateway, "DELETE /~"+token+uuid+" HTTP/1.0\r\n\r\n"), `^HTTP/1\.[01] 405 `)
	match(t, "no HTTP", raw(t, cli, a, gateway, "\x16\x03\x01nonsense\r\n\r\n"), `^HTTP/1\.1 400 `)
	equal(t, "a pod of another network, raw", raw(t, cli, far, gateway, "GET / HTTP/1.0\r\n\r\n"), "")
	if c, err := net.DialTimeout("tcp", host, 5*time.Second); err == nil { // the host itself is no pod
		fmt.Fprintf(c, "GET /~%s%s HTTP/1.0\r\n\r\n", token, uuid)
		b, _ := io.ReadAll(c)
		c.Close()
		equal(t, "the host", string(b), "")
	}
	equal(t, "listeners", strings.Join(listeners(t, mds(t, s)), " "), strings.Join(gateways(t, cli, "bridge", "elsewhere"), " "))
	log, err := os.ReadFile(filepath.Join(s.Root, "mds", "run", "access.log"))
	if err != nil || strings.Contains(string(log), token) || !strings.Contains(string(log), "status=413") || !strings.Contains(string(log), "pod="+podUUID(a)) {
		t.Errorf("the access log: %v\n%s", err, log)
	}
}

// gateways are those of networks, sorted.
func gateways(t *testing.T, cli testbed.CLI, networks ...string) (out []string) {
	t.Helper()
	for _, n := range networks {
		out = append(out, done(t, cli, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", n))
	}
	slices.Sort(out)
	return out
}

// listeners are the addresses at which a process listens on port 1104, sorted.
func listeners(t *testing.T, pid int) (out []string) {
	t.Helper()
	b, err := exec.Command("ss", "-Hltnp").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); strings.Contains(line, "pid="+strconv.Itoa(pid)+",") {
			out = append(out, strings.TrimSuffix(f[3], ":1104"))
		}
	}
	slices.Sort(out)
	return out
}

// mds is the pid of a server's brig-mds.
func mds(t *testing.T, s *testbed.Server) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Root, "mds", "run", "lock"))
	pid, perr := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || perr != nil {
		t.Fatalf("%v, %v", err, perr)
	}
	return pid
}

// The example of docs/identity.md: A proves to B who it is. The host checks it too, and so it does after A's end.
func TestIdentityAcrossPods(t *testing.T) {
	s, cli := daemon(t)
	done(t, cli, "network", "create", "shop")
	a := done(t, cli, "run", "-d", "--name", "front", "--network", "shop", image("busybox"), "sleep", "1000")
	client := done(t, cli, "exec", a, "sh", "-c", "wget -qO- $AC_METADATA_URL/acMetadata/v1/pod/uuid")
	b := done(t, cli, "run", "-d", "--name", "back", "--network", "shop", "-e", "CLIENT="+client, image("busybox"), "sleep", "1000")
	const n = "6e6f6e6365"
	signature := done(t, cli, "exec", a, "sh", "-c", `wget -qO- --post-data "content=to back: `+n+`" $AC_METADATA_URL/acMetadata/v1/pod/hmac/sign`)
	check := func(nonce, client string) int {
		return dockerOn(t, cli, nil, "exec", b, "sh", "-c", `escaped=$(echo "`+signature+`" | sed 's/+/%2B/g; s/=/%3D/g')
			wget -qO- --post-data "content=to back: `+nonce+`&uuid=`+client+`&signature=$escaped" $AC_METADATA_URL/acMetadata/v1/pod/hmac/verify`).Code
	}
	equal(t, "A's proof", check(n, "$CLIENT"), 0)
	equal(t, "A's proof for another nonce", check("00", "$CLIENT"), 1)
	equal(t, "A's proof for B itself", check(n, podUUID(b)), 1)
	verify := func(content string, args ...string) int {
		cmd := exec.Command(filepath.Join(bed.bin, "brig"), append([]string{"-H", s.Host, "verify"}, args...)...)
		cmd.Stdin = strings.NewReader(content)
		cmd.Run()
		return cmd.ProcessState.ExitCode()
	}
	done(t, cli, "rm", "-f", a)
	equal(t, "brig verify", verify("to back: "+n, client, signature), 0)
	equal(t, "brig verify of something else", verify("to back: "+n+"\n", client, signature), 1)
	equal(t, "brig verify of another pod", verify("to back: "+n, podUUID(b), signature), 1)
	equal(t, "brig verify of no UUID", verify("to back: "+n, "a", signature), 1)
	rotate := exec.Command(filepath.Join(bed.bin, "brig"), "-H", s.Host, "mds", "rotate", "--keep", "1h")
	if out, err := rotate.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	equal(t, "after a rotation", check(n, "$CLIENT"), 0)
	rotate = exec.Command(filepath.Join(bed.bin, "brig"), "-H", s.Host, "mds", "rotate", "--keep", "0")
	if out, err := rotate.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	equal(t, "after a rotation that keeps only what was promised before", check(n, "$CLIENT"), 0)
	keys, err := exec.Command(filepath.Join(bed.bin, "brig"), "-H", s.Host, "mds", "jwks").Output()
	if err != nil || strings.Count(string(keys), `"kid"`) != 2 || strings.Contains(string(keys), `"d"`) {
		t.Errorf("the public keys: %v, %s", err, keys)
	}
}

// brig-mds goes on while brigd is dead, and the next brigd takes it over. A container asks all the time, and misses nothing.
func TestMetadataWithoutDaemon(t *testing.T) {
	s, cli := daemon(t)
	id := done(t, cli, "run", "-d", image("busybox"), "sh", "-c",
		"while :; do wget -qO- $AC_METADATA_URL/acMetadata/v1/pod/uuid && echo || echo failed; sleep 0.02; done")
	url, pid := metadataURL(t, cli, id), mds(t, s)
	answers := func() int {
		b, _ := os.ReadFile(logFile(s, id))
		if bytes.Contains(b, []byte("failed")) {
			t.Fatalf("not answered: %s", b)
		}
		return bytes.Count(b, []byte(podUUID(id)))
	}
	more := func(when string) {
		t.Helper()
		before := answers()
		eventually(t, "answers "+when, func() (bool, string) { n := answers(); return n > before+5, strconv.Itoa(n - before) })
	}
	more("at first")
	s.Kill()
	more("without brigd")
	start(t, s)
	more("by the next brigd")
	equal(t, "the process", mds(t, s), pid)
	equal(t, "the URL for an exec of an adopted container", metadataURL(t, cli, id), url)
	next := done(t, cli, "run", "-d", image("busybox"), "sleep", "1000")
	status, _, body := wget(t, cli, next, metadataURL(t, cli, next)+"/acMetadata/v1/pod/uuid")
	equal(t, "a container of the next brigd's", status+" "+body, "200 "+podUUID(next))
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another brig-mds answers", func() (bool, string) {
		status, _, body := wget(t, cli, next, metadataURL(t, cli, next)+"/acMetadata/v1/pod/uuid")
		return status == "200" && body == podUUID(next), status
	})
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", mds(t, s)))
	if err != nil {
		t.Fatal(err)
	}
	var kib int
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	if _, err := fmt.Sscan(rest, &kib); err != nil || kib > 15<<10 {
		t.Errorf("brig-mds has %d KiB in memory, %v", kib, err)
	}
	t.Logf("brig-mds has %.1f MiB in memory", float64(kib)/1024)
}

// Networks that a container joins and leaves while it runs are places that it may call from, and others are not any more.
func TestMetadataFollowsNetworks(t *testing.T) {
	_, cli := daemon(t)
	for _, args := range [][]string{{"one"}, {"two"}, {"inner", "--internal"}} {
		done(t, cli, append([]string{"network", "create"}, args...)...)
	}
	id := done(t, cli, "run", "-d", "--network", "one", image("busybox"), "sleep", "1000")
	friend := done(t, cli, "run", "-d", "--network", "container:"+id, image("busybox"), "sleep", "1000")
	url := metadataURL(t, cli, id)
	at := func(who, url, network string) string {
		_, path, _ := strings.Cut(url, "/~")
		status, _, body := wget(t, cli, who, "http://"+gateways(t, cli, network)[0]+":1104/~"+path+"/acMetadata/v1/pod/uuid")
		return status + " " + body
	}
	equal(t, "in its network", at(id, url, "one"), "200 "+podUUID(id))
	equal(t, "who shares its stack", at(friend, metadataURL(t, cli, friend), "one"), "200 "+podUUID(friend))
	done(t, cli, "network", "connect", "two", id)
	equal(t, "in a second one", at(id, url, "two"), "200 "+podUUID(id))
	equal(t, "who shares its stack, in a second one", at(friend, metadataURL(t, cli, friend), "two"), "200 "+podUUID(friend))
	done(t, cli, "network", "disconnect", "one", id)
	if got := at(id, url, "one"); strings.Contains(got, podUUID(id)) {
		t.Errorf("in a network that it has left: %s", got)
	}
	equal(t, "in the one that is left", at(id, url, "two"), "200 "+podUUID(id))
	inner := done(t, cli, "run", "-d", "--network", "inner", image("busybox"), "sleep", "1000")
	equal(t, "in an internal network", at(inner, metadataURL(t, cli, inner), "inner"), "200 "+podUUID(inner))
}

// A container that has the service's port published gets nothing that others send to the service, whose URL is their secret; they have
// their metadata once the port is free.
func TestMetadataPortIsPublished(t *testing.T) {
	_, cli := daemon(t)
	done(t, cli, "run", "--rm", image("busybox"), "true")
	gateway := gateways(t, cli, "bridge")[0] // all addresses would be other servers' on this machine too
	publish := gateway + ":1104:80"
	thief := done(t, cli, "run", "-d", "-p", publish, image("busybox"), "sh", "-c", "mkdir /w; echo caught >/w/index.html; httpd -f -p 80 -h /w -v -v")
	id := done(t, cli, "run", "-d", image("busybox"), "sleep", "1000")
	get := []string{"exec", id, "wget", "-qO-", "http://" + gateway + ":1104/"}
	if r := dockerOn(t, cli, nil, get...); r.Code == 0 {
		t.Errorf("who asks for metadata gets %q", r.Out)
	}
	url := metadataURL(t, cli, id)
	match(t, "info", done(t, cli, "info", "-f", "{{json .Warnings}}"), "metadata service: serve metadata at "+gateway+".*address already in use")
	done(t, cli, "rm", "-f", thief)
	eventually(t, "metadata, once the port is free", func() (bool, string) {
		status, _, body := wget(t, cli, id, url+"/acMetadata/v1/pod/uuid")
		return status == "200" && body == podUUID(id), status
	})
	r := dockerOn(t, cli, nil, "run", "--rm", "-p", publish, image("busybox"), "true")
	if r.Code != 125 || !strings.Contains(r.Err, "address already in use") {
		t.Errorf("publish the service's port while it is in use: %s", r)
	}
	equal(t, "another address", done(t, cli, "run", "--rm", "-p", "127.0.0.1:1104:80", image("busybox"), "echo", "runs"), "runs")
}

// Containers start where there is no brig-mds, and docker info says so.
func TestNoMetadata(t *testing.T) {
	own(t)
	dir := filepath.Join(bed.dir, fresh("n"))
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"brigd", "brig-shim", "brig-net"} {
		if err := os.Symlink(filepath.Join(bed.bin, p), filepath.Join(bin, p)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(bin, "brig-mds"), []byte("#!/bin/false\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := testbed.NewServer(bin, dir, "--shim", filepath.Join(bin, "brig-shim"))
	start(t, s)
	t.Cleanup(func() {
		if err := stopServer(s); err != nil {
			t.Error(err)
		}
	})
	cli := testbed.CLI{Host: s.Host, Config: filepath.Join(bed.dir, "config")}
	done(t, cli, "pull", "-q", image("busybox"))
	equal(t, "a container", done(t, cli, "run", "--rm", image("busybox"), "echo", "runs"), "runs")
	match(t, "info", done(t, cli, "info", "-f", "{{json .Warnings}}"), "metadata service: .*brig-mds ended at once")
	_, off := daemon(t, "--metadata", "off")
	equal(t, "off", done(t, off, "run", "--rm", image("busybox"), "sh", "-c", `echo "$AC_METADATA_URL"`), "")
}

// As its user brig-mds can open what is published, and nothing else of brigd's; nor can it write anywhere.
func TestMetadataUserReadsNothingElse(t *testing.T) {
	own(t)
	dir, err := os.MkdirTemp("", "brig-mds-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // as /var/lib
		t.Fatal(err)
	}
	s := testbed.NewServer(bed.bin, dir)
	start(t, s)
	defer func() {
		if err := stopServer(s); err != nil {
			t.Error(err)
		}
	}()
	cli := testbed.CLI{Host: s.Host, Config: filepath.Join(bed.dir, "config")}
	done(t, cli, "pull", "-q", image("busybox"))
	id := done(t, cli, "run", "-d", "-v", "data:/data", image("busybox"), "sh", "-c", "echo secret >/data/secret; sleep 1000")
	metadataURL(t, cli, id)
	published, err := os.Stat(filepath.Join(s.Root, "mds", "pods"))
	if err != nil {
		t.Fatal(err)
	}
	gid := published.Sys().(*syscall.Stat_t).Gid
	uid := statusUID(t, mds(t, s))
	var all bytes.Buffer
	if err := filepath.WalkDir(s.Root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !strings.Contains(path, "\n") {
			fmt.Fprintln(&all, path)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(all.String(), "\n"); n < 100 {
		t.Fatalf("only %d paths were looked at", n)
	}
	cmd := exec.Command("sh", "-c", `while IFS= read -r p; do
		if test -d "$p"; then ls "$p" >/dev/null 2>&1 && echo "list $p"; (: >"$p/.x") 2>/dev/null && echo "write $p"
		elif test -f "$p"; then (: <"$p") 2>/dev/null && echo "read $p"; (: >>"$p") 2>/dev/null && echo "write $p"; fi
	done; exit 0`)
	cmd.Stdin, cmd.SysProcAttr = &all, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	equal(t, "what the user can do by path", string(out), "")
	// What brig-mds has is the directory itself, opened before it became that user.
	dirfd, err := os.Open(filepath.Join(s.Root, "mds", "pods"))
	if err != nil {
		t.Fatal(err)
	}
	defer dirfd.Close()
	cmd = exec.Command("sh", "-c", `cd -P /proc/self/fd/3 && ls && (: <`+podUUID(id)+`.json) && echo read; (: >x) 2>/dev/null && echo write; (: >>`+podUUID(id)+`.json) 2>/dev/null && echo write; ls .. 2>/dev/null; exit 0`)
	cmd.ExtraFiles, cmd.SysProcAttr = []*os.File{dirfd}, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	out, err = cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	equal(t, "what the user can do with what is published", string(out), podUUID(id)+".json\nread\n")
}

// statusUID is a process's real user.
func statusUID(t *testing.T, pid int) (uid uint32) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "Uid:")
	if _, err := fmt.Sscan(rest, &uid); err != nil || uid == 0 {
		t.Fatalf("user %d, %v", uid, err)
	}
	return uid
}
