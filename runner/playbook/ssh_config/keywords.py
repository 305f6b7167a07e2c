"""The keywords of ssh_config files, in lower case, by what is done with them."""

from __future__ import annotations

# What fills in an input, or says how a host's key is to be looked for.
SINGLE = frozenset(("hostname", "user", "port", "hostkeyalias"))
GROWING = frozenset(("identityfile", "certificatefile"))
LISTS = frozenset(("userknownhostsfile", "globalknownhostsfile"))
WHOLE = frozenset(("proxycommand", "proxyjump", "knownhostscommand"))
ALIASES = {"identityfile2": "identityfile"}
# What other options say is only looked at to tell that the runner does not do it.
WATCHED = frozenset(
    (
        *("stricthostkeychecking", "verifyhostkeydns", "nohostauthenticationforlocalhost", "revokedhostkeys"),
        *("pkcs11provider", "identityagent", "bindaddress", "bindinterface", "addressfamily"),
        *("canonicalizehostname", "refuseconnection", "tag", "ignoreunknown"),
    )
)
# Keywords of OpenSSH and of the patched ones that systems ship. Others are somebody's slip, or newer than this list.
_OTHERS = """
addkeystoagent afstokenpassing batchmode canonicaldomains canonicalizefallbacklocal canonicalizemaxdots
canonicalizepermittedcnames casignaturealgorithms challengeresponseauthentication channeltimeout checkhostip cipher
ciphers clearallforwardings compression compressionlevel connectionattempts connecttimeout controlmaster controlpath
controlpersist dsaauthentication dynamicforward enableescapecommandline enablesshkeysign escapechar
exitonforwardfailure fallbacktorsh fingerprinthash forkafterauthentication forwardagent forwardx11 forwardx11timeout
forwardx11trusted gatewayports globalknownhostsfile2 gssapiauthentication gssapiclientidentity
gssapidelegatecredentials gssapikexalgorithms gssapikeyexchange gssapirenewalforcesrekey gssapiserveridentity
gssapitrustdns hashknownhosts host hostbasedacceptedalgorithms hostbasedauthentication hostbasedkeytypes
hostkeyalgorithms identitiesonly include ipqos kbdinteractiveauthentication kbdinteractivedevices keepalive
kerberosauthentication kerberostgtpassing kexalgorithms localcommand localforward logfacility loglevel logverbose macs
match numberofpasswordprompts obscurekeystroketiming passwordauthentication permitlocalcommand permitremoteopen
preferredauthentications protocol protocolkeepalives proxyusefdpass pubkeyacceptedalgorithms pubkeyacceptedkeytypes
pubkeyauthentication rekeylimit remotecommand remoteforward requesttty requiredrsasize rhostsauthentication
rhostsrsaauthentication rsaauthentication securitykeyprovider sendenv serveralivecountmax serveraliveinterval
sessiontype setenv setuptimeout skeyauthentication smartcarddevice stdinnull streamlocalbindmask
streamlocalbindunlink syslogfacility tcpkeepalive tisauthentication tunnel tunneldevice updatehostkeys usekeychain
useprivilegedport userknownhostsfile2 useroaming usersh versionaddendum visualhostkey warnweakcrypto
xauthlocation
"""
KEYWORDS = frozenset(_OTHERS.split()) | SINGLE | GROWING | LISTS | WHOLE | WATCHED | ALIASES.keys()
