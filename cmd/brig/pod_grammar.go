package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/brigd/brig/internal/podspec"
)

// An ordering is the command line of brig pod run and prepare. Options before the first IMAGE are the pod's, those behind an IMAGE its app's:
//
//	[POD OPTIONS] [IMAGE [APP OPTIONS] [-- ARG…] [--- IMAGE …]…]
type ordering struct {
	podspec.Order
	file, shm string
	dryRun    bool
	pull      string
	login     credentials
}

const grammarHelp = `
Options before the first IMAGE are the pod's, those behind an IMAGE are its app's. "--" begins the arguments of an app, which come after the
command of the image; "---" ends an app, and another IMAGE follows. With -f the pod manifest's apps come first, and no IMAGE is needed.

  brig pod run --name web -v data nginx --name front -p http:8080 -m data:/srv --- busybox --name log --exec /bin/tail -m data:/srv -- -f /srv/log

An IMAGE is what docker calls it (it is pulled if it is missing), an appc name with labels (NAME[:VERSION][,LABEL=VALUE…]), or an ACI's ID, sha512-….
A VOLUME without a path is an empty directory that goes with the pod; apps mount it with -m, or where their image has a mount point of that name.
`

// podFlags adds the pod's options to a command.
func (o *ordering) podFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVarP(&o.file, "file", "f", "", "take the pod manifest in `FILE`, - for standard input: what it leaves open is filled in")
	f.StringVar(&o.Name, "name", "", "call the pod `NAME` (default: a random one)")
	f.StringVar(&o.Hostname, "hostname", "", "host `NAME` that the apps share (default: the beginning of the UUID's digits)")
	f.StringVar(&o.Network, "net", "", "`NETWORK` that the apps share: bridge, host, none, or one that docker network made (default: bridge)")
	f.StringArrayVar(&o.DNS, "dns", nil, "`ADDRESS` of a name server; may be repeated")
	f.StringArrayVar(&o.ExtraHosts, "add-host", nil, "line of the hosts file, `NAME:ADDRESS`; may be repeated")
	f.StringVar(&o.shm, "shm-size", "", "`SIZE` of the /dev/shm that the apps share (default: 64m)")
	f.StringToStringVarP(&o.Labels, "label", "l", nil, "label `KEY=VALUE` of each app's container; may be repeated")
	f.StringVar(&o.Restart, "restart", "", "restart `POLICY` of each app, as docker has them (default: no)")
	f.StringVar(&o.LogDriver, "log-driver", "", "log `DRIVER` of each app")
	f.StringToStringVar(&o.LogOptions, "log-opt", nil, "`KEY=VALUE` option of the log driver; may be repeated")
	f.StringArrayVarP(&o.Annotations, "annotation", "a", nil, "annotation `NAME=VALUE` of the pod; may be repeated")
	f.StringArrayVar(&o.Isolators, "isolator", nil, "isolator `NAME=JSON` of the pod; may be repeated")
	f.BoolVar(&o.Strict, "strict", false, "refuse isolators that can't be enforced, and mount points that no volume is named for")
	f.StringVar(&o.pull, "pull", "missing", "pull images `WHEN`: missing, always or never")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the reified pod manifest and make nothing")
	o.shared(f)
	o.login.flags(cmd)
}

// shared adds the options that mean the pod wherever they stand.
func (o *ordering) shared(f *pflag.FlagSet) {
	f.VarP((*gathered)(&o.Volumes), "volume", "v", "volume of the pod, `NAME`[=/PATH of the host][,readOnly=true][,recursive=false] or NAME,kind=empty[,mode=0755][,uid=0][,gid=0]; may be repeated")
	f.VarP((*gathered)(&o.Ports), "port", "p", "publish the port that an image calls NAME on the host, `NAME[=PORT[/PROTOCOL]]:[ADDRESS:]PORT`; with =PORT no image need have a name for it; may be repeated")
}

// gathered is an option whose values are added to those from elsewhere on the command line.
type gathered []string

func (g *gathered) Set(s string) error { *g = append(*g, s); return nil }
func (g *gathered) String() string     { return "" }
func (g *gathered) Type() string       { return "stringArray" }

// appFlags are the options of one app.
func (o *ordering) appFlags(a *podspec.AppOptions, exec *string) *pflag.FlagSet {
	f := pflag.NewFlagSet("app", pflag.ContinueOnError)
	f.SetInterspersed(false)
	f.StringVar(&a.Name, "name", "", "call the app `NAME` (default: after its image)")
	f.StringArrayVarP(&a.Annotations, "annotation", "a", nil, "annotation `NAME=VALUE` of the app; may be repeated")
	f.StringArrayVarP(&a.Mounts, "mount", "m", nil, "mount a volume, `VOLUME:PATH`, or VOLUME:MOUNTPOINT by the image's name for it; may be repeated")
	f.StringArrayVarP(&a.Env, "env", "e", nil, "variable `NAME=VALUE`; may be repeated")
	f.StringVar(exec, "exec", "", "execute `PROGRAM` instead of the image's command")
	f.StringVarP(&a.User, "user", "u", "", "run as `USER`: name, number, or a path, whose owner is meant")
	f.StringVarP(&a.Group, "group", "g", "", "run as `GROUP`, likewise")
	f.IntSliceVar(&a.SupplementaryGIDs, "supplementary-gids", nil, "further groups, `NUMBER,…`")
	f.StringVarP(&a.WorkingDirectory, "workdir", "w", "", "working `DIRECTORY`")
	f.BoolVar(&a.ReadOnlyRootFS, "readonly-rootfs", false, "make the app's file system read-only")
	f.StringArrayVar(&a.Isolators, "isolator", nil, "isolator `NAME=JSON` instead of the image's of that name; may be repeated")
	o.shared(f)
	return f
}

// usage is the help text of the app's options.
func (o *ordering) usage() string {
	var exec string
	return grammarHelp + "\nApp options:\n" + new(ordering).appFlags(new(podspec.AppOptions), &exec).FlagUsages()
}

// read takes the command line apart; args begin with the first IMAGE.
func (o *ordering) read(cmd *cobra.Command, args []string) error {
	if o.file != "" {
		b, err := readFile(cmd, o.file)
		if err != nil {
			return err
		}
		if !json.Valid(b) {
			return fmt.Errorf("%s is no JSON", o.file)
		}
		o.Manifest = b
	}
	for len(args) > 0 {
		end := slices.Index(args, "---")
		if end < 0 {
			end = len(args)
		} else if end == len(args)-1 {
			return fmt.Errorf("an image is missing behind ---")
		}
		if err := o.app(args[:end]); err != nil {
			return err
		}
		args = args[min(end+1, len(args)):]
	}
	if len(o.Apps) == 0 && o.file == "" {
		return fmt.Errorf("no image: give one, or a pod manifest with -f")
	}
	if o.shm != "" {
		n, err := units.RAMInBytes(o.shm)
		if err != nil || n <= 0 {
			return fmt.Errorf("invalid size of /dev/shm: %q", o.shm)
		}
		o.ShmSize = n
	}
	if !slices.Contains([]string{"missing", "always", "never"}, o.pull) {
		return fmt.Errorf("--pull: %q is none of missing, always and never", o.pull)
	}
	return nil
}

// app reads IMAGE [APP OPTIONS] [-- ARG…].
func (o *ordering) app(words []string) error {
	if len(words) == 0 || words[0] == "" || words[0][0] == '-' {
		return fmt.Errorf("an image is missing before %q", words)
	}
	a, exec := podspec.AppOptions{Image: words[0]}, ""
	f := o.appFlags(&a, &exec)
	if err := f.Parse(words[1:]); err != nil {
		return fmt.Errorf("image %s: %w", a.Image, err)
	}
	if exec != "" {
		a.Exec = []string{exec}
	}
	if a.Args = f.Args(); len(a.Args) > 0 && f.ArgsLenAtDash() != 0 {
		return fmt.Errorf("image %s: unexpected %q: arguments of an app come after --, and another image after ---", a.Image, a.Args[0])
	}
	o.Apps = append(o.Apps, a)
	return nil
}

// maxManifest bounds a pod manifest, in bytes; brigd's own limit is somewhat above.
const maxManifest = 2 << 20

func readFile(cmd *cobra.Command, name string) ([]byte, error) {
	in := cmd.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxManifest+1))
	if err == nil && len(b) > maxManifest {
		err = fmt.Errorf("%s has more than %d bytes: that is no pod manifest", name, maxManifest)
	}
	return b, err
}
