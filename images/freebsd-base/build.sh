#!/bin/sh
# Completes the base system of a FreeBSD release; the manifest has its version, with the patch level.
set -e
cp rc.conf /etc/rc.conf
version=$(freebsd-version -u)
number=${version%%-*}
case $version in
*-p*) number=$number.${version##*-p} ;;
*) number=$number.0 ;;
esac
cat > manifest.json <<END
{
  "name": "example.com/freebsd-base",
  "labels": [{"name": "version", "value": "$number"}],
  "app": {"exec": ["/bin/sh"], "user": "0", "group": "0"}
}
END
