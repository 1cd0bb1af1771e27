// docker2aci-oracle converts one image with docker2aci 0.17.2, for comparison: squashed and uncompressed, into the directory DIR.
// It prints the path of the ACI. With -layered first it writes one ACI per layer, and prints their paths from the lowest up.
//
//	docker2aci-oracle DIR docker://127.0.0.1:PORT/repository:tag
//	docker2aci-oracle DIR archive.tar
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	docker2aci "github.com/appc/docker2aci/lib"
	"github.com/appc/docker2aci/lib/common"
	d2alog "github.com/appc/docker2aci/pkg/log"
)

func main() {
	args := os.Args[1:]
	layered := len(args) > 0 && args[0] == "-layered"
	if layered {
		args = args[1:]
	}
	if len(args) != 2 {
		log.Fatal("usage: docker2aci-oracle [-layered] DIR docker://REGISTRY/IMAGE | FILE")
	}
	paths, err := convert(args[0], args[1], !layered)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Join(paths, "\n"))
}

// convert returns the paths of what docker2aci wrote; it is one if it squashes.
func convert(dir, image string, squash bool) ([]string, error) {
	c := docker2aci.CommonConfig{
		Squash: squash, OutputDir: dir, TmpDir: dir, Compression: common.NoCompression,
		Info: d2alog.NewStdLogger(os.Stderr), Debug: d2alog.NewStdLogger(io.Discard),
	}
	if name, ok := strings.CutPrefix(image, "docker://"); ok {
		return docker2aci.ConvertRemoteRepo(name, docker2aci.RemoteConfig{CommonConfig: c, Insecure: common.InsecureConfig{SkipVerify: true, AllowHTTP: true}})
	}
	return docker2aci.ConvertSavedFile(image, docker2aci.FileConfig{CommonConfig: c})
}
