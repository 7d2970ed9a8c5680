import subprocess
import sys


def test_reports_import_neither_torch_nor_tokenizers():
    code = (
        "import sys, dmlm.reports, dmlm.reports.vocabulary; dmlm.reports.load_knowledge();"
        "print([m for m in ('torch', 'lightning', 'tokenizers', 'transformers') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names_exist():
    import dmlm.reports as reports

    assert all(hasattr(reports, name) for name in reports.__all__)
    assert not hasattr(reports, "nothing")
