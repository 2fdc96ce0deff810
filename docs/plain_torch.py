import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

N_TEACHERS = 12
TEACHER_EPOCHS = 30
STUDENT_EPOCHS = 50
BATCH_SIZE = 64
TEMPERATURE = 3.0
ALPHA = 0.7


def load_data():
    X, y = make_classification(
        n_samples=5000, n_features=20, n_informative=10, n_redundant=5, random_state=42
    )
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)
    scaler = StandardScaler().fit(X_train)
    return (
        torch.tensor(scaler.transform(X_train), dtype=torch.float32),
        torch.tensor(scaler.transform(X_test), dtype=torch.float32),
        torch.tensor(y_train),
        torch.tensor(y_test),
    )


class Teacher(nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 256),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(128, 64),
            nn.ReLU(),
            nn.Linear(64, n_classes),
        )

    def forward(self, x):
        return self.layers(x)


class Student(nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 64),
            nn.ReLU(),
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.Linear(32, n_classes),
        )

    def forward(self, x):
        return self.layers(x)


def train_teacher(X, y, seed):
    torch.manual_seed(seed)
    model = Teacher(X.shape[1], 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(X, y), batch_size=BATCH_SIZE, shuffle=True)
    model.train()
    for _ in range(TEACHER_EPOCHS):
        for rows, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(rows), labels)
            loss.backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def ensemble_logits(teachers, X):
    return torch.stack([teacher(X) for teacher in teachers]).mean(dim=0)


def distillation_loss(student_logits, teacher_logits, labels):
    soft = nn.functional.kl_div(
        nn.functional.log_softmax(student_logits / TEMPERATURE, dim=1),
        nn.functional.softmax(teacher_logits / TEMPERATURE, dim=1),
        reduction="batchmean",
    )
    hard = nn.functional.cross_entropy(student_logits, labels)
    return ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * hard


def train_student(X, y, teacher_logits, seed):
    torch.manual_seed(seed)
    model = Student(X.shape[1], 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    # The teachers' answers are made once and travel with their rows through the shuffling.
    rows_and_targets = TensorDataset(X, y, X if teacher_logits is None else teacher_logits)
    loader = DataLoader(rows_and_targets, batch_size=BATCH_SIZE, shuffle=True)
    model.train()
    for _ in range(STUDENT_EPOCHS):
        for rows, labels, targets in loader:
            optimizer.zero_grad()
            if teacher_logits is None:
                loss = nn.functional.cross_entropy(model(rows), labels)
            else:
                loss = distillation_loss(model(rows), targets, labels)
            loss.backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def accuracy(logits, labels):
    return (logits.argmax(dim=1) == labels).float().mean().item()


X_train, X_test, y_train, y_test = load_data()
teachers = [train_teacher(X_train, y_train, seed) for seed in range(N_TEACHERS)]
teacher_logits = ensemble_logits(teachers, X_train)

distilled = train_student(X_train, y_train, teacher_logits, seed=0)
plain = train_student(X_train, y_train, None, seed=0)

with torch.no_grad():
    print(f"ensemble  {accuracy(ensemble_logits(teachers, X_test), y_test):.2%}")
    print(f"distilled {accuracy(distilled(X_test), y_test):.2%}")
    print(f"plain     {accuracy(plain(X_test), y_test):.2%}")
torch.save(distilled.state_dict(), "student.pt")
