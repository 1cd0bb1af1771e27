package integration

import (
	"archive/tar"
	"bytes"
	"net/url"
	"strings"
)

// buildActs are builds: the container that the acts are about is that of a RUN.
func buildActs() []act {
	const mounts = "--mount=type=cache,target=/c --mount=type=tmpfs,target=/t "
	good := "FROM " + image("busybox") + "\nCOPY f /f\nVOLUME /v\nRUN " + mounts + "echo x | tee /c/x /t/x /v/x /x\nRUN rm /x\n"
	bad := "FROM " + image("busybox") + "\nVOLUME /v\nRUN echo x > /x; exit 3\n"
	script := `rm /bin/vi; echo x > /x; echo '{"name":"crash","labels":[{"name":"version","value":"t"}]}' > manifest.json`
	during := "none created running exited"
	return []act{
		{name: "build", again: []string{"jail.made", "jail.started", "end.", "container.forgotten"}, deeds: []deed{
			{do: builds("/build?t=crash:t", map[string]string{"Dockerfile": good, "f": "f"}, "Successfully built"), states: "none", via: during, image: true},
			{do: builds("/build?t=crash:t", map[string]string{"Dockerfile": good, "f": "f"}, "Using cache"), states: "none", image: true},
			{do: request("GET", "/images/crash:t/get", ""), states: "none", image: true},
			{do: request("DELETE", "/images/crash:t", ""), states: "none"},
			{do: request("POST", "/build/prune?all=true", ""), states: "none"},
		}},
		{name: "failing build", deeds: []deed{
			{do: builds("/build", map[string]string{"Dockerfile": bad}, "returned a non-zero code: 3"), states: "exited", via: during, code: 3},
			{do: forgets, states: "none", via: "exited", code: 3},
			{do: request("POST", "/build/prune?all=true", ""), states: "none"},
		}},
		{name: "build of an ACI", deeds: []deed{
			{do: builds("/brig/v1/build?"+url.Values{"base": {image("busybox")}, "arg": {"sh", "-c", script}}.Encode(), map[string]string{"f": "f"}, `"Result"`), states: "none", via: during, image: true},
			{do: request("DELETE", "/images/crash:t", ""), states: "none"},
		}},
	}
}

// builds asks for a build of files, in whose answer words stand if it came to its end.
func builds(path string, files map[string]string, words string) func(*world) bool {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for name, body := range files {
		if err := tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}); err != nil {
			panic(err)
		}
		tw.Write([]byte(body))
	}
	tw.Close()
	return func(w *world) bool {
		status, answer, acked := w.call("POST", path, b.String())
		if strings.Contains(string(answer), words) {
			return acked
		}
		if acked && status >= 400 || strings.Contains(string(answer), "error") {
			w.t.Fatalf("POST %s: %d %s", path, status, answer)
		}
		return false // the stream was cut, which an answer without a length doesn't show
	}
}

// forgets removes the container that a failed build has left.
func forgets(w *world) bool {
	s := w.subject()
	if s == nil {
		w.t.Fatal("the failed build has left no container")
	}
	return request("DELETE", "/containers/"+s.ID+"?v=1", "")(w)
}
