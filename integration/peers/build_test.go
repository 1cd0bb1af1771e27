package peers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// dockerfiles have what images carry from one engine to the other: layers that take away, links, owners, and all of the config.
var dockerfiles = []struct{ name, text, says string }{
	{"stages", `FROM REG/busybox AS a
RUN mkdir -p /d/e && echo x >/d/e/x && ln /d/e/x /d/hard && ln -s hard /d/soft && mkfifo /d/p && chown -R 5:6 /d/e && chmod 4711 /d/e/x
FROM REG/busybox
COPY --from=a /d /d
RUN ls -ln /d | awk 'NF > 2 {print $1, $3, $4}' >/list; ls -ln /d/e/x | cut -c1-10 >>/list
CMD cat /list /d/soft
`, "drwxr-xr-x 5 6\n-rws--x--x 5 6\nprw-r--r-- 0 0\nlrwxrwxrwx 0 0\n-rws--x--x\nx"},
	{"takes away", `FROM REG/layers
RUN rm -rf /home /etc/passwd && mkdir /home && echo new >/home/new && rm -f /noexec && mkdir /noexec
RUN echo more >>/etc/group && rm -rf /noexec && echo file >/noexec
CMD ls /home /etc/passwd 2>&1; cat /noexec; tail -n 1 /etc/group
`, "ls: /etc/passwd: No such file or directory\n/home:\nnew\nfile\nmore"},
	{"config", `FROM REG/user
ARG V=v
ENV A=$V B="two words"
WORKDIR deeper
COPY --chown=app:staff f .
USER app:staff
ENTRYPOINT ["sh", "-c", "echo $A $B $FROM_IMAGE; pwd; id -un; id -gn; cat f; echo $0"]
CMD ["cmd"]
LABEL l=m
EXPOSE 81
VOLUME /v2
HEALTHCHECK --interval=1h CMD true
STOPSIGNAL SIGUSR1
`, "v two words yes\n/home/app/deeper\napp\nstaff\nf\ncmd"},
	{"scratch", `FROM REG/busybox AS a
FROM scratch
COPY --from=a /bin/ /bin/
COPY f /
CMD ["/bin/cat", "/f"]
`, "f"},
}

// TestBuiltImages builds on each engine, and takes what was built to the other by an archive and by a registry: it is the same image there, and runs.
func TestBuiltImages(t *testing.T) {
	for _, name := range []string{"busybox", "layers", "user"} {
		on(t, bed.brig, "pull", "-q", bed.reg+"/"+name)
		on(t, bed.docker, "pull", "-q", bed.reg+"/"+name)
	}
	for _, way := range []struct {
		name     string
		from, to testbed.CLI
	}{{"from brig to dockerd", bed.brig, bed.docker}, {"from dockerd to brig", bed.docker, bed.brig}} {
		for i, d := range dockerfiles {
			t.Run(way.name+"/"+d.name, func(t *testing.T) {
				dir := t.TempDir()
				for name, text := range map[string]string{"Dockerfile": strings.ReplaceAll(d.text, "REG/", bed.reg+"/"), "f": "f\n"} {
					if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				ref := bed.reg + "/built/" + strings.ReplaceAll(d.name, " ", "-") + ":" + strings.Repeat("i", i+1)
				on(t, way.from, "build", "-t", ref, dir)
				want := id(t, way.from, ref)
				says(t, "where it was built", way.from, ref, d.says)
				file := filepath.Join(dir, "saved.tar")
				on(t, way.from, "save", "-o", file, ref)
				on(t, way.to, "load", "-q", "-i", file)
				if got := id(t, way.to, ref); got != want {
					t.Errorf("loaded: %s, want %s", got, want)
				}
				says(t, "loaded", way.to, ref, d.says)
				if a, b := history(t, way.from, ref), history(t, way.to, ref); a != b {
					t.Errorf("the history changes on the way:\n%s\nbecomes\n%s", a, b)
				}
				on(t, way.to, "rmi", "-f", ref)
				on(t, way.from, "push", "-q", ref)
				on(t, way.to, "pull", "-q", ref)
				if got := id(t, way.to, ref); got != want {
					t.Errorf("pulled: %s, want %s", got, want)
				}
				says(t, "pulled", way.to, ref, d.says)
				on(t, way.to, "rmi", "-f", ref)
				on(t, way.from, "rmi", "-f", ref)
			})
		}
	}
}

// says runs an image, whose output is wanted.
func says(t *testing.T, when string, cli testbed.CLI, ref, want string) {
	t.Helper()
	if got := on(t, cli, "run", "--rm", ref); got != want {
		t.Errorf("%s: says\n%s\nwant\n%s", when, got, want)
	}
}

func history(t *testing.T, cli testbed.CLI, ref string) string {
	t.Helper()
	return on(t, cli, "history", "--no-trunc", "--format", "{{.CreatedBy}} | {{.Comment}}", ref)
}
