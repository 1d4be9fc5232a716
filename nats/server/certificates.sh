#!/bin/sh
# An authority and a server's certificate, for a cluster on one machine: certificates.sh FOLDER NAMES [DAYS]. NAMES are those by which
# the server is called, DNS:nats-1,IP:127.0.0.1 for example. What is there already stays; so does the authority's key, beside it.
set -eu
folder=$1 names=$2 days=${3:-3650}
umask 077
mkdir -p "$folder"
cd "$folder"
key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
if [ ! -e ca.pem ]; then
    # shellcheck disable=SC2086 # several words
    openssl req -x509 $key -keyout ca.key -out ca.new -days 3650 -subj "/CN=urge authority" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
    mv ca.new ca.pem
fi
if [ ! -e server.pem ]; then
    # shellcheck disable=SC2086
    openssl req -new $key -keyout server.key -out server.csr -subj "/CN=nats"
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n' "$names" >extensions
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days "$days" -extfile extensions -out server.new
    mv server.new server.pem
fi
# The nodes, who are other users, need the authority's certificate alone.
chmod 755 .
chmod 644 ca.pem
