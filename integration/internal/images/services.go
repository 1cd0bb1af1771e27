package images

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A service is a real server of Debian's packages over busybox's tree, with a start-up like that of the image that everybody knows.
type service struct {
	name, pkg string // pkg is the package to begin with; the libraries that it needs come along
	files     []file
	config    v1.Config
}

const second = time.Second

// check is a health check that looks often.
func check(args ...string) *v1.HealthConfig {
	return &v1.HealthConfig{Test: append([]string{"CMD"}, args...), Interval: second, Timeout: 5 * second, Retries: 30}
}

func services() []service {
	one := func(port string) map[string]struct{} { return map[string]struct{}{port: {}} }
	return []service{
		{"postgres", "postgresql", postgresFiles(), v1.Config{Env: []string{path, "PGDATA=/var/lib/postgresql/data"}, User: "postgres", StopSignal: "SIGINT",
			Entrypoint: []string{"/usr/local/bin/docker-entrypoint.sh"}, Cmd: []string{"postgres"}, ExposedPorts: one("5432/tcp"), Volumes: one("/var/lib/postgresql/data")}},
		{"redis", "redis-server", []file{owned(dir("data", 0o755), 998, 998)}, v1.Config{Env: []string{path}, User: "redis", WorkingDir: "/data",
			Cmd: []string{"redis-server", "--bind", "*", "-::*", "--protected-mode", "no"}, ExposedPorts: one("6379/tcp"), Volumes: one("/data"), Healthcheck: check("redis-cli", "ping")}},
		{"nginx", "nginx", nginxFiles(), v1.Config{Env: []string{path}, Cmd: []string{"nginx", "-g", "daemon off;"}, ExposedPorts: one("80/tcp"), StopSignal: "SIGQUIT",
			Healthcheck: check("wget", "-qO", "/dev/null", "http://127.0.0.1/")}},
		{"memcached", "memcached", nil, v1.Config{Env: []string{path}, User: "memcache", Cmd: []string{"memcached"}, ExposedPorts: one("11211/tcp"),
			Healthcheck: check("sh", "-c", "echo version | nc -w 1 127.0.0.1 11211")}},
	}
}

// postgresFiles has a first start-up that makes the database as the environment says, and one door to the programs of whatever version it is.
func postgresFiles() []file {
	const entry = `set -e
[ "$1" = postgres ] || exec "$@"
user=${POSTGRES_USER:-postgres} db=${POSTGRES_DB:-${POSTGRES_USER:-postgres}} word=$POSTGRES_PASSWORD
[ -z "$POSTGRES_PASSWORD_FILE" ] || word=$(cat "$POSTGRES_PASSWORD_FILE")
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	[ -n "$word" ] || { echo "POSTGRES_PASSWORD is not set" >&2; exit 1; }
	echo "$word" >/tmp/word
	initdb -N -D "$PGDATA" -U "$user" --pwfile=/tmp/word --auth-host=scram-sha-256 --auth-local=trust -E UTF8 --locale=C >/dev/null
	rm /tmp/word
	printf 'fsync = off\nlisten_addresses = %s\n' "'*'" >>"$PGDATA/postgresql.conf"
	echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
	pg_ctl -D "$PGDATA" -o "-c listen_addresses=" -s -w start
	[ "$db" = postgres ] || psql -q -U "$user" -d postgres -c "CREATE DATABASE \"$db\""
	for f in /docker-entrypoint-initdb.d/*.sql; do
		[ ! -f "$f" ] || psql -q -v ON_ERROR_STOP=1 -U "$user" -d "$db" -f "$f"
	done
	pg_ctl -D "$PGDATA" -s -m fast -w stop
fi
exec postgres
`
	files := []file{dir("usr/local", 0o755), dir("usr/local/bin", 0o755), script("usr/local/bin/docker-entrypoint.sh", entry, 0o755),
		script("usr/local/bin/pg", "exec /usr/lib/postgresql/*/bin/${0##*/} \"$@\"\n", 0o755), dir("docker-entrypoint-initdb.d", 0o755),
		dir("var/lib", 0o755), owned(dir("var/lib/postgresql", 0o755), 999, 999), owned(dir("var/lib/postgresql/data", 0o700), 999, 999),
		dir("var/run", 0o755), owned(dir("var/run/postgresql", 0o755), 999, 999)}
	for _, name := range []string{"postgres", "psql", "initdb", "pg_ctl", "pg_isready"} {
		files = append(files, file{name: "usr/local/bin/" + name, target: "pg"})
	}
	return files
}

func nginxFiles() []file {
	return []file{dir("etc/nginx", 0o755), dir("etc/nginx/conf.d", 0o755), dir("var/log", 0o755), dir("var/log/nginx", 0o755), dir("var/lib", 0o755), dir("var/lib/nginx", 0o755),
		dir("run", 0o755), dir("usr/share", 0o755), dir("usr/share/nginx", 0o755), dir("usr/share/nginx/html", 0o755), text("usr/share/nginx/html/index.html", "Welcome to nginx!\n"),
		text("etc/nginx/nginx.conf", "user nobody nogroup;\nworker_processes 1;\nerror_log /dev/stderr notice;\npid /run/nginx.pid;\nevents {}\n"+
			"http {\n\taccess_log /dev/stdout;\n\tinclude /etc/nginx/conf.d/*.conf;\n}\n"),
		text("etc/nginx/conf.d/default.conf", "server {\n\tlisten 80;\n\troot /usr/share/nginx/html;\n}\n")}
}

// Services are the images postgres, redis, nginx and memcached, from the host's apt, some seconds each the first time; their layers are kept
// in the folder cache. log gets a line for each layer that is made. Where BRIG_TEST_SERVICES names a folder, they are read there as Save wrote them.
func Services(ctx context.Context, cache string, log io.Writer) (Set, error) {
	if saved := os.Getenv("BRIG_TEST_SERVICES"); saved != "" {
		return Saved(saved)
	}
	tree, err := busyboxTree()
	if err != nil {
		return nil, err
	}
	base, err := gzipped(tree)
	if err != nil {
		return nil, err
	}
	// The packages' files are below usr; the linker is looked for in lib or lib64.
	links := []file{{name: "lib", target: "usr/lib"}, {name: "lib64", target: "usr/lib64"}, {name: "sbin", target: "usr/sbin"},
		text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nmemcache:x:997:997::/:/bin/sh\nredis:x:998:998::/data:/bin/sh\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"),
		text("etc/group", "root:x:0:\nmemcache:x:997:\nredis:x:998:\npostgres:x:999:\nnogroup:x:65534:\n")}
	set := Set{}
	for _, s := range services() {
		layers := []v1.Layer{base}
		names, err := closure(ctx, s.pkg)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", s.name, err)
		}
		more, err := packaged(ctx, filepath.Join(cache, "services"), []recipe{{s.name, names}}, log)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", s.name, err)
		}
		b, err := pack(append(slices.Clone(links), s.files...))
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", s.name, err)
		}
		own, err := gzipped(b)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", s.name, err)
		}
		if set[s.name+":latest"], err = image(false, runtime.GOARCH, s.config, append(append(layers, more...), own)...); err != nil {
			return nil, fmt.Errorf("image %s: %w", s.name, err)
		}
	}
	return set, nil
}

// What a service's libraries are followed into, and what of it is left out: the compiler that PostgreSQL can do without, and what only scripts need.
var (
	followed = regexp.MustCompile(`^(lib|zlib1g$|postgresql-([0-9]|client-[0-9])|redis-tools|nginx-(core|light))`)
	without  = regexp.MustCompile(`^lib(llvm|z3|perl|pam-modules|debian-installer|newt|.*-perl$|.*-common$)`)
)

// closure lists the package and what it needs of libraries and of its own parts, in the order of names.
func closure(ctx context.Context, first string) ([]string, error) {
	out, err := output(ctx, "", "apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", first)
	if err != nil {
		return nil, err
	}
	needs := map[string][]string{}
	var of string
	var chosen bool // an alternative to the next line was taken
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, " ") {
			of, chosen = strings.TrimSpace(line), false
			continue
		}
		kind, name, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			continue // a package that provides the one in the line above
		}
		if !chosen && followed.MatchString(name) && !without.MatchString(name) {
			needs[of] = append(needs[of], name)
		}
		chosen = strings.HasPrefix(kind, "|")
	}
	all := []string{first}
	for i := 0; i < len(all); i++ {
		for _, n := range needs[all[i]] {
			if !slices.Contains(all, n) {
				all = append(all, n)
			}
		}
	}
	slices.Sort(all)
	if !slices.Contains(all, "libc6") {
		return nil, fmt.Errorf("apt-cache depends %s names no C library: has apt-get update been run?", first)
	}
	return all, nil
}

// Program is an image of busybox's tree and one static program of the host's, which it runs.
func Program(bin string) (v1.Image, error) {
	tree, err := busyboxTree()
	if err != nil {
		return nil, err
	}
	body, err := os.ReadFile(bin)
	if err != nil {
		return nil, err
	}
	own, err := pack([]file{{name: "program", body: string(body), mode: 0o755}})
	if err != nil {
		return nil, err
	}
	var layers []v1.Layer
	for _, b := range [][]byte{tree, own} {
		l, err := gzipped(b)
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	return image(false, runtime.GOARCH, v1.Config{Env: []string{path}, Cmd: []string{"/program"}}, layers...)
}
