"""Keys as PuTTY writes them: made by `puttygen` 0.78 for these tests, and good for nothing else."""

from __future__ import annotations

from typing import NamedTuple

PASSPHRASE = "open sesame 42"
# An empty comment has one behind its name.
SPACE = " "


class PuttyFile(NamedTuple):
    """A file, the public key that is in it, and how the passphrase becomes a key; empty where there is none."""

    text: str
    public_line: str
    derivation: str = ""


PUBLIC_LINES = {
    "ed25519": ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJglSraW9aRBVPWaI0fC7Ngy4dPfw4QlWknt6ZtfBBPc"),
    "rsa": (
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDV9EpyOHUS2cXM8fNQi/s1bQSb2IdugxeSPLq6oH6Yuy4M2oeKuQILRtx5RniK"
        "uK1KWI4vgEX6LaZps61nSrfxjTnlPB/rrE3lnNhPulBoHgv814tQJVnWH3u0Wbkteec6HMxnjYJlz+DNIheEYq9KOhnbmyMtFLZB"
        "NF5Zeavj3W3fjlg1aD69bCXfxE63Y/x2nzV+ieh3gh27TO7pT+Nlv2a60SIiT7wMb00CEGUQXByMUMYas3/yjJTJu2Hxguc5sFWd"
        "vMbrNaMvl8PGwoh/dfKl7rCXXotUOTmomHOs7d12oRw41ME9vTM+zLx1CYORIZ+AxkvLGDrFXVr4JJ6X"
    ),
    "ecdsa 256": (
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBB/tjFFr6QaSNeri/gVdqyCwENdY"
        "7Huln8gfqVoezSoi5td4oxoSGVqdekcMQo9J1WngHCQClOabOqMFwYQg+vQ="
    ),
    "ecdsa 384": (
        "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBEcxsHAAEpmBF1X7J9iWc2t6/Gun"
        "HsEo8j9iRvxdWoVhppnmkqPBZOdiXKhp7QvnibgPvRQ+HmyjIEWng7FETuw7emi1vU96Kdn2LeXWdcpazUY8dsOJjgVtsaTOWPAI"
        "qA=="
    ),
    "ecdsa 521": (
        "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAFUjZF1DOb/tEfIkCLfQCXim8+3"
        "fOhsVLtZJgiFRg5++ExM1xTn1yf/cAFX4g1MbcSTU6T4e8/TaOq7pF096gCYcwF9v2DPodyPHxjo/7A3m7uifoglJhCHb/nJ4iuW"
        "/K/GLYYLx1vA82JV966CveWKdtOoRW8EZ3dg2hbXZ6CD+uWaFA=="
    ),
    "ed25519 whose highest byte is 0": (
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKk004eVsu/VmdvPNe9LWkHOuOGWFFjdMWvXVeLhj5yS"
    ),
}

FILES: dict[str, PuttyFile] = {}

FILES["ed25519, version 2"] = PuttyFile(
    """\
PuTTY-User-Key-File-2: ssh-ed25519
Encryption: none
Comment: me@here
Public-Lines: 2
AAAAC3NzaC1lZDI1NTE5AAAAIJglSraW9aRBVPWaI0fC7Ngy4dPfw4QlWknt6Ztf
BBPc
Private-Lines: 1
AAAAIH62HXprta6NkCoT0KiyqAYgAVZMAcySAu1jGifYqoQH
Private-MAC: 2d5dfdc3c55ce11275982a63c2d80e9ec98b49fb
""",
    PUBLIC_LINES["ed25519"],
)
FILES["ed25519, version 2, encrypted"] = PuttyFile(
    """\
PuTTY-User-Key-File-2: ssh-ed25519
Encryption: aes256-cbc
Comment: me@here
Public-Lines: 2
AAAAC3NzaC1lZDI1NTE5AAAAIJglSraW9aRBVPWaI0fC7Ngy4dPfw4QlWknt6Ztf
BBPc
Private-Lines: 1
/92DTFxn260PWR1CSGe6iiw/w2uFSLNaM0HYJXffDaCXGXkpb2DQ+p+Y84D3Qdt0
Private-MAC: 45c393b6f486b273ff4b1a25901da9d9ed99c867
""",
    PUBLIC_LINES["ed25519"],
    "sha1",
)
FILES["ed25519, version 3"] = PuttyFile(
    """\
PuTTY-User-Key-File-3: ssh-ed25519
Encryption: none
Comment: me@here
Public-Lines: 2
AAAAC3NzaC1lZDI1NTE5AAAAIJglSraW9aRBVPWaI0fC7Ngy4dPfw4QlWknt6Ztf
BBPc
Private-Lines: 1
AAAAIH62HXprta6NkCoT0KiyqAYgAVZMAcySAu1jGifYqoQH
Private-MAC: f2de409be988e2eb9691fde95b2f90a7992961fa2cd2ca336db423abdc675866
""",
    PUBLIC_LINES["ed25519"],
)
FILES["ed25519, version 3, encrypted"] = PuttyFile(
    """\
PuTTY-User-Key-File-3: ssh-ed25519
Encryption: aes256-cbc
Comment: me@here
Public-Lines: 2
AAAAC3NzaC1lZDI1NTE5AAAAIJglSraW9aRBVPWaI0fC7Ngy4dPfw4QlWknt6Ztf
BBPc
Key-Derivation: Argon2id
Argon2-Memory: 8192
Argon2-Passes: 34
Argon2-Parallelism: 1
Argon2-Salt: 52248d58c677b773bb71959e4bf4e1d0
Private-Lines: 1
zgBdA6bSCQr9jM882xwVylQpnh0ei4SEoN4R7HWHYvBTbzJv8PfExBKeUVxlh7NZ
Private-MAC: fa8a3f368ad9c92076c6826c9f2ed474b5094b54f8a12372f5f0b972217822c1
""",
    PUBLIC_LINES["ed25519"],
    "Argon2id",
)
FILES["ed25519 whose highest byte is 0, version 3"] = PuttyFile(
    f"""\
PuTTY-User-Key-File-3: ssh-ed25519
Encryption: none
Comment:{SPACE}
Public-Lines: 2
AAAAC3NzaC1lZDI1NTE5AAAAIKk004eVsu/VmdvPNe9LWkHOuOGWFFjdMWvXVeLh
j5yS
Private-Lines: 1
AAAAIIbwLcsftHBG5jpIanbh9BF+X4ZeJQ5JIpbNmg3osSEA
Private-MAC: 2953fca7db6ea3517a0f31fb84435a49505c2a71a8b4dc8ce58d494c1501d588
""",
    PUBLIC_LINES["ed25519 whose highest byte is 0"],
)
FILES["rsa, version 2"] = PuttyFile(
    """\
PuTTY-User-Key-File-2: ssh-rsa
Encryption: none
Comment: a key: of mine
Public-Lines: 6
AAAAB3NzaC1yc2EAAAADAQABAAABAQDV9EpyOHUS2cXM8fNQi/s1bQSb2IdugxeS
PLq6oH6Yuy4M2oeKuQILRtx5RniKuK1KWI4vgEX6LaZps61nSrfxjTnlPB/rrE3l
nNhPulBoHgv814tQJVnWH3u0Wbkteec6HMxnjYJlz+DNIheEYq9KOhnbmyMtFLZB
NF5Zeavj3W3fjlg1aD69bCXfxE63Y/x2nzV+ieh3gh27TO7pT+Nlv2a60SIiT7wM
b00CEGUQXByMUMYas3/yjJTJu2Hxguc5sFWdvMbrNaMvl8PGwoh/dfKl7rCXXotU
OTmomHOs7d12oRw41ME9vTM+zLx1CYORIZ+AxkvLGDrFXVr4JJ6X
Private-Lines: 14
AAABACB1i3CAuDeVP7kJYUybBWWO6zVpnZev3meakbRhR6jhh5RTownyFNP5JYG7
UJZbJjndQtUEtO5w9opFbs1OPKcyMdJhU3EXFvT63VEF3HpZ9J+guSCo9Kl+OppF
8nNqcctoixTlbHRdxqaDFuZIF9KUYKU8iBL9eBkJr4wLitRq1baMAr4l1hPeuVoV
f31gzRUlDokloRHb2LNCvacR7t0j5iqB2DLBx+JDBj7lsov3mIklNQpWBP3yRJha
TRl9gCiVFqMR9UBzv/eLfxTlJ/EX5j6lrCkUB+rj+bRpvbmi4EcxjXirVZmuecGP
pf9Hb+3saPcC7DaYRmri8abGrMEAAACBAPsufK9cAXDd8Pxo0rT9qGKstzW9LB2S
jTsGNthoswbz/eoLRB+rw8mpsI7Uwn8MeV6cdxfzhv1PjoSAeFqrqg8Yayvxt6iF
tGNjtf4dRKnWiud+DyOEFpmB29SDUgJxI0zLFi7cU9XmQEQKeLRx84FIiLyAJQQz
hsNvF/fNfLP5AAAAgQDaDvx6np0KQAf8tizZIMAI3YW4U4FwWDazAu1ZS+02acnq
cisQjqoFTPBwnChoOI/JjkYBG0BNQRFKrta/fmzDyYZF2lmzMKUdCcI5RqYm3e2R
FK9QRkGi9XP4EZV75FY9VPL/xhUZNwtIHlrooKinRgxMjFtM6JMoFxpS0MVrDwAA
AIAxiQpRpObCrw1+wWuxRsu5npt4x3tN3Xfe7Pd2ZQmyJ4PankeOF+KGJdeXgsSs
ANrxLZN8ICOHlSeUWkMid0f0QyI8216LRD1SYi65Kly3kLvBgsRNpOFjsxXATdkf
t3WRplgp0r+LstfFjyH35E+hHrsGmUu0lKFqxJr+WdbseA==
Private-MAC: 08945321299101d582dfb2e976bc5c2e6ed05807
""",
    PUBLIC_LINES["rsa"],
)
FILES["rsa, version 3, encrypted"] = PuttyFile(
    """\
PuTTY-User-Key-File-3: ssh-rsa
Encryption: aes256-cbc
Comment: a key: of mine
Public-Lines: 6
AAAAB3NzaC1yc2EAAAADAQABAAABAQDV9EpyOHUS2cXM8fNQi/s1bQSb2IdugxeS
PLq6oH6Yuy4M2oeKuQILRtx5RniKuK1KWI4vgEX6LaZps61nSrfxjTnlPB/rrE3l
nNhPulBoHgv814tQJVnWH3u0Wbkteec6HMxnjYJlz+DNIheEYq9KOhnbmyMtFLZB
NF5Zeavj3W3fjlg1aD69bCXfxE63Y/x2nzV+ieh3gh27TO7pT+Nlv2a60SIiT7wM
b00CEGUQXByMUMYas3/yjJTJu2Hxguc5sFWdvMbrNaMvl8PGwoh/dfKl7rCXXotU
OTmomHOs7d12oRw41ME9vTM+zLx1CYORIZ+AxkvLGDrFXVr4JJ6X
Key-Derivation: Argon2i
Argon2-Memory: 512
Argon2-Passes: 3
Argon2-Parallelism: 2
Argon2-Salt: cf9a1f841c5b026d98b34f767b6aba56
Private-Lines: 14
YKR3f0CxYIgCf5PEv6556hFBZtBaDjGZs3eAl/viVc+LV00upLNHvcdDRjVUbmvO
aloU4mURLvnvHHGTUZ2lahe0zgK7/xFnofS04R0xrkfZySeB5d8T2um/FiuFX26M
M7+asZOt8a0TsaZOe/wLFIQN3FOJslMI1Zyyy2rglnnR1XRMlK0nnzE+Zphv2mLT
9EhNCVxx9EGMrns4CrFtPNJJGdHhv4TZJucO6UeLpIKenp5vEq3hbQg7p4d856T/
0FH3w9F3ALLItNgHZ9CAHDH/erGrY9zTgNcmhoiHonCZF8QOJiVGduWlHytcynjf
MLUFBuw4zQ2ezNjZjn9sI4CttOy5j8XquvygT41mc6R6K3q9+v3E9kbc7ylOCHQH
6pLEgZlXajoN1/W+ViMMs0HWOnzfMsH8xKHQ9iJRJZECp50/CP7PR8HRQCvQY9qY
jGJmnzuhZl+C5+YgpVoS4STmniDr2UUUSt9rgeKjY0L1wnRSTzhOEJw0SyfY20LS
9B4NLHgZx98qGKEZK/Mmbu9CwdzRoFH1M0fp07nVThe8TIDrKUYEfK0mY90msn45
Gv0YPayYL5r6r6C0HRgerOPECPFh4fLWvrKP/TpD+GjSU1uVWmPz6gKV1eNZ23mr
UvsnKlJi3dd6NTw5n/OOhgqv2nmzYfpqCEkMDrd5gcQX1J/o4Fj5NfhAtNM9wAG0
Ewearpo3PK0CgrVMBGCuKMr2ZV6MYA/MLICZ692TretOjVImt1axr7XEFAloF3pQ
V2smOeUTU2gqjQik18s2hdVdl/nfHx2AWYrFXz0xxV/yo5AZ4dfD8z5I1efWJCTQ
7kjn6Ci4JuyV/S34OdT5W4Q7wICyPUkDvsqifNLZyOgjJh6+rBve7cqLxduLvOxT
Private-MAC: 96088ac4e892a3c0772b8c02b2d7dc02e9b8c11d3d204638af785e9a5d46431e
""",
    PUBLIC_LINES["rsa"],
    "Argon2i",
)
FILES["ecdsa 256, version 2, encrypted"] = PuttyFile(
    f"""\
PuTTY-User-Key-File-2: ecdsa-sha2-nistp256
Encryption: aes256-cbc
Comment:{SPACE}
Public-Lines: 3
AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBB/tjFFr6QaS
Neri/gVdqyCwENdY7Huln8gfqVoezSoi5td4oxoSGVqdekcMQo9J1WngHCQClOab
OqMFwYQg+vQ=
Private-Lines: 1
sELZnPzSWu2uz/bJA0OxBXgrO5C+2TeJYZ/7fsv7M6e+EOI1YXn8QfFNxvBpb3bE
Private-MAC: 71a5c7b9b0b4c7da4b0a2b93e87c0344358ebde3
""",
    PUBLIC_LINES["ecdsa 256"],
    "sha1",
)
FILES["ecdsa 384, version 3, encrypted"] = PuttyFile(
    """\
PuTTY-User-Key-File-3: ecdsa-sha2-nistp384
Encryption: aes256-cbc
Comment: root@vm
Public-Lines: 3
AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBEcxsHAAEpmB
F1X7J9iWc2t6/GunHsEo8j9iRvxdWoVhppnmkqPBZOdiXKhp7QvnibgPvRQ+Hmyj
IEWng7FETuw7emi1vU96Kdn2LeXWdcpazUY8dsOJjgVtsaTOWPAIqA==
Key-Derivation: Argon2d
Argon2-Memory: 256
Argon2-Passes: 2
Argon2-Parallelism: 1
Argon2-Salt: e010f2a1dcef5cfaf73ea914d42f3885
Private-Lines: 2
gUh5rUZugH+an9W1O6IEg/HiypWeqkANNxNyGcJB9Q1vM4Xlzikv4zSqMiSncsFX
5nGnGps8Yjhu7vEKgp4ifA==
Private-MAC: d440efdc20066c5230f09befc0ac7a08f8bf3fffc3b46f656edb25a373104f12
""",
    PUBLIC_LINES["ecdsa 384"],
    "Argon2d",
)
FILES["ecdsa 521, version 3"] = PuttyFile(
    """\
PuTTY-User-Key-File-3: ecdsa-sha2-nistp521
Encryption: none
Comment: root@vm
Public-Lines: 4
AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAFUjZF1DOb/
tEfIkCLfQCXim8+3fOhsVLtZJgiFRg5++ExM1xTn1yf/cAFX4g1MbcSTU6T4e8/T
aOq7pF096gCYcwF9v2DPodyPHxjo/7A3m7uifoglJhCHb/nJ4iuW/K/GLYYLx1vA
82JV966CveWKdtOoRW8EZ3dg2hbXZ6CD+uWaFA==
Private-Lines: 2
AAAAQVDf6Z94G2bC/GMlkczxAmoC0UKbab4zqu13Q3nrmD18K7N9/gIMYA8nD90R
m8BMdmsZJ4h0zlF7gITXHAM1gKm/
Private-MAC: 814df852a6eaa27d3100926ab9b042cc0b4f0ce2ef023bdcd54de5452c0f7817
""",
    PUBLIC_LINES["ecdsa 521"],
)
